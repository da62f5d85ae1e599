// What all parts of the page share: elements, numbers, packed arrays.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element; texts become text nodes, so nothing of a run is ever read as HTML. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Numbers of a packed array: base64 of float32, or of shares in 65534ths. */
function unpack(packed) {
  if (!packed) return null;
  const size = packed.f === undefined ? 2 : 4, text = packed.f ?? packed.s;
  const padding = text.endsWith("==") ? 2 : +text.endsWith("=");
  return unpackPart(packed, 0, (text.length / 4 * 3 - padding) / size);
}

/** Some of them, from one on; the rest stays packed. */
function unpackPart(packed, from, count) {
  if (!packed) return null;
  const size = packed.f === undefined ? 2 : 4;
  // Four characters hold three bytes, so a part begins within such a group.
  const first = Math.floor(from * size / 3), skipped = from * size - 3 * first;
  const text = atob((packed.f ?? packed.s).slice(4 * first, 4 * Math.ceil((from + count) * size / 3)));
  const bytes = new Uint8Array(count * size);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(skipped + i);
  if (size === 4) return new Float32Array(bytes.buffer);
  return Float64Array.from(new Uint16Array(bytes.buffer), (v) => (v === 65535 ? NaN : v / 65534));
}

const minus = (text) => text.replace("-", "−");
const isNumber = (v) => typeof v === "number" && Number.isFinite(v);
const fixed = (v, digits = 4) => (isNumber(v) ? minus(v.toFixed(digits)) : "–");
const signed = (v, digits = 4) => (isNumber(v) ? (v >= 0 ? "+" : "") + fixed(v, digits) : "–");
const short = (v) => (isNumber(v) ? minus(String(+v.toPrecision(5))) : "–");
const range = (low, high, write = fixed) => (isNumber(low) ? `${write(low)} … ${write(high)}` : "no interval");
const said = (name) => ({ train: "training", val: "validation" }[name.split("_")[0]] ?? name.split("_")[0])
  + " " + name.split("_").slice(1).join(" ");
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** Text for a figure, whose library would read tags. */
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A labelled select; options are [value, text]. */
function choice(label, options, value, change) {
  const select = el("select", { onchange: () => change(select.value) },
    ...options.map(([v, text]) => el("option", { value: v }, text)));
  select.value = value;
  return [el("label", {}, label, select), select];
}

/** A table in a box of its own that scrolls; cells are texts or elements. */
function table(caption, columns, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "hidden" }, caption),
      el("thead", {}, el("tr", {}, ...columns.map((c) => el("th", { scope: "col" }, c)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {},
        ...row.map((cell, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, cell)))))));
}
