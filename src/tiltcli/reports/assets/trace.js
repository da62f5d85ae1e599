// One training step by step: panels over a common axis of optimiser steps.
class TracePlot {
  constructor(host, trace, title, caption = null) {
    Object.assign(this, { trace, title });
    this.window = [trace.from, trace.to];
    if (!caption) this.form(host);
    this.plot = new Plot(host, {
      label: () => `${title}, steps ${this.window[0]} to ${this.window[1]}: ${this.trace.panels.map((p) => p.title).join(", ")}.`,
      height: () => this.trace.panels.length * (printing ? 135 : 150) + 60,
      draw: (w, colours) => this.draw(w, colours),
      numbers: () => this.numbers(),
      caption: caption ?? "Thinned for drawing: of each stretch of steps its lowest and its highest point are kept, so that every swing shows."
        + (trace.shaded.length ? " Shaded: instabilities, the loss oscillates about its smooth course." : ""),
    });
  }

  form(host) {
    const field = (label, i) => el("label", {}, label, el("input", { type: "number", min: this.trace.from, max: this.trace.to, value: this.window[i], onchange: (event) => {
      const value = Math.round(+event.target.value);
      const next = [...this.window];
      next[i] = Math.min(Math.max(value || 0, this.trace.from), this.trace.to);
      if (next[0] < next[1]) this.show(next);
      else event.target.value = this.window[i];
    } }));
    this.fields = [field("From step", 0), field("To step", 1)];
    host.append(el("div", { class: "controls" }, ...this.fields,
      el("button", { type: "button", onclick: () => this.show([this.trace.from, this.trace.to]) }, "All steps")));
  }

  show(window) {
    this.window = window;
    this.fields.forEach((f, i) => { $("input", f).value = window[i]; });
    this.plot.refresh();
  }

  draw(w, colours) {
    const { panels } = this.trace, n = panels.length, gap = 0.3 / n, each = (1 - gap * (n - 1)) / n;
    const data = [], layout = { margin: { l: 60, r: 12, t: 26, b: 40 }, annotations: [], shapes: [], showlegend: true, hovermode: "x" };
    panels.forEach((panel, i) => {
      const top = 1 - i * (each + gap), legend = axisName("legend", i);
      panel.series.forEach((s) => {
        s.numbers ??= { x: unpack(s.x), y: unpack(s.y) };
        const name = plain(s.name);
        data.push({ type: "scatter", mode: s.points || s.numbers.x.length < 2 ? "markers" : "lines", x: s.numbers.x, y: s.numbers.y, name, yaxis: axisName("y", i), legend,
          line: { color: colours.c[s.colour], width: s.dash ? 1.6 : 1.1, dash: s.dash ? "dash" : "solid" },
          marker: { color: colours.c[s.colour], size: s.numbers.x.length > 1000 ? 2.5 : 3.5 }, hovertemplate: `%{y:.5g}<extra>${name}</extra>` });
      });
      layout[axisKey("y", i)] = { domain: [Math.max(0, top - each), top], nticks: 4, zeroline: false, tickfont: { size: 11 },
        ...(panel.log ? logAxis(panel.series.flatMap((s) => [...s.numbers.y])) : {}) };
      layout.annotations.push({ text: w < 480 ? panel.title.replace(/^(class weight|Hessian) /, "") : panel.title, xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12 } });
      layout[legend] = { orientation: "h", x: 1, xanchor: "right", y: top, yanchor: "bottom", itemsizing: "constant", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)", visible: panel.series.length > 1 && (w >= 480 || panel.series.length <= 3) };
    });
    for (const [x0, x1] of this.trace.shaded)
      layout.shapes.push({ type: "rect", xref: "x", yref: "paper", x0, x1, y0: 0, y1: 1, fillcolor: faint(colours.muted, 0.16), line: { width: 0 }, layer: "below" });
    for (const [x] of this.trace.marks ?? [])
      layout.shapes.push({ type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: colours.ink, width: 1.2, dash: "dot" } });
    layout.xaxis = { anchor: axisName("y", n - 1), range: this.window, title: { text: "optimiser step t", standoff: 6 }, zeroline: false, tickformat: "d", nticks: w < 500 ? 5 : 9 };
    return { data, layout };
  }

  numbers() {
    const rows = [];
    for (const panel of this.trace.panels) for (const s of panel.series) {
      s.numbers ??= { x: unpack(s.x), y: unpack(s.y) };
      const inside = [...s.numbers.x.keys()].filter((i) => s.numbers.x[i] >= this.window[0] && s.numbers.x[i] <= this.window[1]);
      const every = Math.max(1, Math.ceil(inside.length / 40));
      for (let k = 0; k < inside.length; k += every) rows.push([panel.title, s.name, String(s.numbers.x[inside[k]]), short(s.numbers.y[inside[k]])]);
    }
    return { columns: ["quantity", "line", "step", "value"], rows };
  }
}

/** The richest instabilities enlarged, one at a time. */
class Zooms {
  constructor(host, zooms) {
    const about = el("p", { class: "muted", "aria-live": "polite" });
    const marked = (zoom) => `${zoom.about}. Dotted: ${zoom.marks.map(([step, what]) => `${what} (step ${step})`).join(", ")}.`;
    const [box] = choice("Instability", zooms.map((zoom, i) => [i, zoom.about]), 0, (v) => {
      this.plot.trace = zooms[+v];
      this.plot.window = [zooms[+v].from, zooms[+v].to];
      about.textContent = marked(zooms[+v]);
      this.plot.plot.refresh();
    });
    about.textContent = marked(zooms[0]);
    if (zooms.length > 1) host.append(el("div", { class: "controls" }, box));
    host.append(about);
    this.plot = new TracePlot(host, zooms[0], "An instability enlarged",
      "A point per step: on a cycle of period 2 the points lie on two branches by turns, which split again where the period doubles. Shaded: while the instability lasts.");
  }
}
