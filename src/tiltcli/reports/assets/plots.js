// Figures: drawn when they come into sight, again when the width or the theme changes.
const NAMES = ["paper", "card", "ink", "muted", "grid", "middle", "lost",
  "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
const CIVIDIS = [[0, "#00224e"], [0.125, "#123570"], [0.25, "#3b496c"], [0.375, "#575d6d"],
  [0.5, "#707173"], [0.625, "#8a8678"], [0.75, "#a59c74"], [0.875, "#c3b369"], [1, "#fee838"]];
const MOST_TABLE_ROWS = 1000;
const COARSE = matchMedia("(pointer: coarse)").matches;
let printing = false;

/** The theme's colours as the browser resolves them; on paper always the light ones. */
function palette() {
  const probe = el("span", printing ? { class: "light-colours" } : {});
  document.body.append(probe);
  const colours = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  colours.c = NAMES.filter((n) => /^c\d$/.test(n)).map((n) => colours[n]);
  return colours;
}

const faint = (rgb, alpha) => rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);

const plots = [];

class Plot {
  /**
   * spec: label() text alternative; height(width); draw(width, colours) → {data, layout};
   * numbers() → {columns, rows}; click(point), optional; caption, optional.
   */
  constructor(host, spec) {
    this.spec = spec;
    this.box = el("div", { class: "plot", role: "img" });
    this.figure = el("figure", {}, this.box);
    if (spec.caption) this.figure.append(el("figcaption", {}, spec.caption));
    if (spec.numbers) this.figure.append(this.details());
    host.append(this.figure);
    this.width = 0;
    this.reserve();
    plots.push(this);
    watcher.observe(this.box);
  }

  details() {
    const box = el("details", { class: "numbers" }, el("summary", {}, "Numbers of this figure"));
    box.addEventListener("toggle", () => {
      $(".scroll", box)?.remove();
      $(".note", box)?.remove();
      if (!box.open) return;
      const { columns, rows } = this.spec.numbers();
      if (rows.length > MOST_TABLE_ROWS)
        box.append(el("p", { class: "note" }, `The first ${MOST_TABLE_ROWS} of ${rows.length} rows.`));
      box.append(table(this.spec.label(), columns, rows.slice(0, MOST_TABLE_ROWS)));
    });
    return box;
  }

  reserve(width = this.box.clientWidth || 340) {
    this.box.style.height = `${this.spec.height(width)}px`;
    this.box.setAttribute("aria-label", this.spec.label());
  }

  draw(width = this.box.clientWidth) {
    if (!width || !window.Plotly) return;
    this.width = width;
    this.reserve(width);
    const colours = palette();
    const { data, layout } = this.spec.draw(width, colours);
    const axis = { gridcolor: colours.grid, linecolor: colours.muted, zerolinecolor: colours.grid,
      tickcolor: colours.muted, automargin: false, fixedrange: false };
    for (const key of Object.keys(layout)) if (/^[xy]axis/.test(key)) layout[key] = { ...axis, ...layout[key] };
    const whole = {
      width, height: this.spec.height(width),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, 'DejaVu Sans', sans-serif", size: 12, color: colours.ink },
      hoverlabel: { bgcolor: colours.card, bordercolor: colours.muted, font: { color: colours.ink, size: 12 }, align: "left" },
      dragmode: COARSE ? false : "zoom", showlegend: false, ...layout,
    };
    Plotly.react(this.box, data, whole, { displayModeBar: false, doubleClick: "reset", responsive: false });
    if (this.spec.click && !this.listening) {
      this.listening = true;
      this.box.on("plotly_click", (event) => this.spec.click(event.points[0]));
    }
    this.drawn = true;
  }

  refresh() {
    if (this.drawn) this.draw();
    else this.reserve();
    const open = $("details[open]", this.figure);
    if (open) { open.open = false; open.open = true; }
  }
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const plot = plots.find((one) => one.box === entry.target);
    plot.seen = entry.isIntersecting;
    if (plot.seen && !plot.drawn) plot.draw();
    else if (plot.seen && plot.stale) { plot.stale = false; plot.draw(); }
  }
}, { rootMargin: "400px" });

/** Unpack the library, run it, draw what is in sight; only a script of the digest in the page's policy runs. */
async function load() {
  const packed = Uint8Array.from(atob($("#plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.body.append(el("script", {}, await new Response(stream).text()));
  for (const plot of plots) if (plot.seen) plot.draw();
}

/** Draw again what is in sight now, the rest when it comes into sight. */
function redraw() {
  for (const plot of plots) {
    if (plot.seen && plot.drawn) plot.draw();
    else { plot.stale = true; plot.reserve(); }
  }
}

let pending = 0;
let lastWidth = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === lastWidth) return; // a phone's address bar
  lastWidth = innerWidth;
  clearTimeout(pending);
  pending = setTimeout(redraw, 150);
});
addEventListener("beforeprint", () => {
  printing = true;
  for (const plot of plots) plot.draw(plot.figure.closest(".maps") ? 320 : 660);
});
addEventListener("afterprint", () => {
  printing = false;
  for (const plot of plots) plot.draw();
});

/** A line of means with its band, as traces. */
function band(x, mean, low, high, colour, name, more = {}) {
  const at = [...x.keys()].filter((i) => isNumber(mean[i]));
  const traces = [];
  const inside = low ? at.filter((i) => isNumber(low[i])) : [];
  if (inside.length > 1) {
    const floor = more.log ? (i) => Math.max(low[i], mean[i] * 1e-3) : (i) => low[i];
    traces.push({
      x: [...inside.map((i) => x[i]), ...inside.map((i) => x[i]).reverse()],
      y: [...inside.map(floor), ...inside.map((i) => high[i]).reverse()],
      type: "scatter", mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: faint(colour, 0.2),
      hoverinfo: "skip", showlegend: false, xaxis: more.xaxis, yaxis: more.yaxis, legendgroup: name,
    });
  }
  traces.push({
    x: at.map((i) => x[i]), y: at.map((i) => mean[i]), type: "scatter", mode: at.length > 1 ? "lines" : "markers",
    line: { color: colour, width: 2, dash: more.dash }, marker: { color: colour }, name, legendgroup: name,
    showlegend: more.legend ?? true, xaxis: more.xaxis, yaxis: more.yaxis,
    text: at.map((i) => `${more.write ? more.write(mean[i]) : fixed(mean[i])} (${range(low?.[i], high?.[i], more.write)})`),
    hovertemplate: `${name}: %{text}<extra></extra>`,
  });
  return traces;
}

/** A logarithmic axis with plain numbers: 1, 2, 5 of each decade where there is room for them, else fewer. */
function logAxis(values) {
  const at = [...values].filter((v) => isNumber(v) && v > 0).map((v) => log(v));
  if (!at.length) return { type: "log", nticks: 4 };
  const low = at.reduce((a, b) => Math.min(a, b)), high = at.reduce((a, b) => Math.max(a, b)), span = high - low;
  const leading = span < 0.35 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : span < 2 ? [1, 2, 5] : span < 3.2 ? [1, 3] : [1];
  const every = Math.ceil(span / 5), tickvals = [];
  for (let k = Math.floor(low) - 1; k <= high + 1; k++) if (k % every === 0 || every < 2) for (const m of leading) tickvals.push(+`${m}e${k}`);
  return { type: "log", tickmode: "array", tickvals, ticktext: tickvals.map((v) => (v >= 1e5 || v < 1e-3 ? v.toExponential().replace("e+", "e").replace("-", "−") : String(v))) };
}

const axisName = (letter, i) => letter + (i ? i + 1 : "");
const axisKey = (letter, i) => `${letter}axis${i ? i + 1 : ""}`;

/** Domains of n panels side by side where there is room, else one below the other. */
function grid(n, width, least = 250) {
  const columns = Math.max(1, Math.min(n, Math.floor(width / least)));
  const rows = Math.ceil(n / columns);
  const gapX = columns > 1 ? 62 / width : 0;
  const each = (1 - gapX * (columns - 1)) / columns;
  return { columns, rows, domain: (i, height) => {
    const row = Math.floor(i / columns), column = i % columns;
    const gapY = rows > 1 ? 66 / height : 0;
    const tall = (1 - gapY * (rows - 1)) / rows;
    const top = 1 - row * (tall + gapY);
    return { x: [column * (each + gapX), Math.min(1, column * (each + gapX) + each)], y: [Math.max(0, top - tall), top] };
  } };
}
