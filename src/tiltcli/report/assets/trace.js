// One training step by step: panels over a common axis of optimiser steps.
class TracePlot {
  constructor(host, trace, title, zoomable = true) {
    Object.assign(this, { trace, title });
    this.window = [trace.from, trace.to];
    if (zoomable) this.form(host);
    this.plot = new Plot(host, {
      label: () => `${title}, steps ${this.window[0]} to ${this.window[1]}: ${trace.panels.map((p) => p.title).join(", ")}.`,
      height: () => trace.panels.length * 150 + 60,
      draw: (w, colours) => this.draw(w, colours),
      numbers: () => this.numbers(),
      caption: "Thinned for drawing: of each stretch of steps its lowest and its highest point are kept, so that every swing shows.",
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
    const data = [], layout = { margin: { l: 60, r: 12, t: 26, b: 40 }, annotations: [], showlegend: true, hovermode: "x" };
    panels.forEach((panel, i) => {
      const top = 1 - i * (each + gap), legend = axisName("legend", i);
      panel.series.forEach((s) => {
        s.numbers ??= { x: unpack(s.x), y: unpack(s.y) };
        data.push({ type: "scatter", mode: s.numbers.x.length > 1 ? "lines" : "markers", x: s.numbers.x, y: s.numbers.y, name: s.name, yaxis: axisName("y", i), legend,
          line: { color: colours.c[s.colour], width: 1.1, dash: s.name === "2/η" ? "dash" : "solid" }, hovertemplate: `%{y:.5g}<extra>${s.name}</extra>` });
      });
      layout[axisKey("y", i)] = { domain: [Math.max(0, top - each), top], type: panel.log ? "log" : "linear", nticks: 4, zeroline: false, exponentformat: "power", tickfont: { size: 11 } };
      layout.annotations.push({ text: w < 480 ? panel.title.replace("class weight ", "") : panel.title, xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12 } });
      layout[legend] = { orientation: "h", x: 1, xanchor: "right", y: top, yanchor: "bottom", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)", visible: panel.series.length > 1 && (w >= 480 || panel.series.length <= 3) };
    });
    layout.xaxis = { anchor: axisName("y", n - 1), range: this.window, title: { text: "optimiser step t", standoff: 6 }, zeroline: false, nticks: w < 500 ? 5 : 9 };
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
