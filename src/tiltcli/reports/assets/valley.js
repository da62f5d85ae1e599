// The valley through a pulse: its shape at some steps, its width and its floor at all of them.
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];

/** A colour of the scale; the end that the page's own colour would swallow is left out. */
function viridis(share, ink) {
  const dark = +ink.match(/\d+/)[0] > 127;
  const at = (dark ? 0.25 + 0.75 * share : 0.87 * share) * (VIRIDIS.length - 1), i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[i].map((v, k) => Math.round(v + (at - i) * (VIRIDIS[i + 1][k] - v))).join(", ")})`;
}

class ValleyPlot {
  constructor(host, valley) {
    for (const one of [valley.trained, valley.frozen]) {
      one.losses = one.losses.map(unpack);
      one.width = unpack(one.width);
      one.floor = unpack(one.floor);
      one.share = one.steps.map((step) => (step - valley.begin) / valley.period);
    }
    valley.alphas = unpack(valley.alphas);
    this.valley = valley;
    this.panels = [
      { title: `pulse ${valley.pulse}, as trained`, of: valley.trained },
      { title: `weights frozen at step ${valley.middle}`, of: valley.frozen },
      { title: "width at 0.02 above the floor", part: "width" },
      { title: "floor, least F on the line (nat)", part: "floor" },
    ];
    new Plot(host, {
      label: () => this.label(),
      height: (w) => { const g = grid(4, w - 62, 290); return g.rows * 230 + (g.rows - 1) * 66 + 42 + this.above(w); },
      draw: (w, colours) => this.draw(w, colours),
      numbers: () => this.numbers(),
      caption: "Above: F along the line, at the step's class weights; the dots are the weights themselves, at distance 0. Frozen: the weights of the middle of the pulse, so that only the loss tilts. Below: width and floor through the pulse.",
    });
  }

  /** Room above the panels: a legend that takes more lines where it is narrow. */
  above(w) { return w < 480 ? 176 : w < 800 ? 96 : 68; }

  label() {
    const { trained } = this.valley, middle = Math.floor(trained.steps.length / 2), end = trained.steps.length - 1;
    const at = (k) => `width ${short(+trained.width[k].toPrecision(3))}, floor ${short(+trained.floor[k].toPrecision(3))}`;
    return `Valley through pulse ${this.valley.pulse}: at its begin ${at(0)}; in its middle ${at(middle)}; at its end ${at(end)}.`;
  }

  draw(w, colours) {
    const { valley, panels } = this;
    const g = grid(4, w - 62, 290), tall = g.rows * 230 + (g.rows - 1) * 66;
    const data = [], layout = { margin: { l: 50, r: 12, t: this.above(w), b: 42 }, annotations: [], shapes: [], showlegend: true, hovermode: "closest",
      legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top", font: { size: 11 } } };
    const lowest = Math.min(...valley.trained.floor, ...valley.frozen.floor), highest = Math.max(...valley.trained.floor);
    panels.forEach((panel, i) => {
      const d = g.domain(i, tall), xaxis = axisName("x", i), yaxis = axisName("y", i);
      if (panel.of) panel.of.losses.forEach((losses, k) => {
        if (k % 2) return;
        const share = panel.of.share[k], color = viridis(share, colours.ink), name = `t/T = ${share.toFixed(2)}`;
        data.push({ type: "scatter", mode: "lines", x: valley.alphas, y: losses, xaxis, yaxis, name, legendgroup: name, showlegend: i === 0,
          line: { color, width: 1.7 }, hovertemplate: `α = %{x:.2f}: F = %{y:.4g}<extra>${name}</extra>` });
        data.push({ type: "scatter", mode: "markers", x: [0], y: [losses[(losses.length - 1) / 2]], xaxis, yaxis, legendgroup: name, showlegend: false, marker: { color, size: 6 }, hoverinfo: "skip" });
      });
      else [["as trained", valley.trained, colours.c0, "solid"], ["frozen weights", valley.frozen, colours.c1, "dash"]].forEach(([name, of, color, dash]) =>
        data.push({ type: "scatter", mode: "lines+markers", x: of.share, y: of[panel.part], xaxis, yaxis, name, legendgroup: name, showlegend: panel.part === "width",
          line: { color, width: 1.7, dash }, marker: { size: 5 }, hovertemplate: `t/T = %{x:.2f}: %{y:.4g}<extra>${name}</extra>` }));
      layout[axisKey("x", i)] = { domain: d.x, anchor: yaxis, title: { text: panel.of ? "distance from the weights, α" : "t / T", standoff: 6 }, nticks: 6, zeroline: false };
      layout[axisKey("y", i)] = { domain: d.y, anchor: xaxis, nticks: 5, zeroline: false,
        ...(panel.part === "width" ? { rangemode: "tozero" } : logAxis([lowest, highest])), ...(panel.of ? { range: [log(0.7 * lowest), log(6 * highest)] } : {}) };
      layout.annotations.push({ text: panel.title, xref: "paper", yref: "paper", x: d.x[0], y: d.y[1], xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12.5 } });
    });
    return { data, layout };
  }

  numbers() {
    const { trained, frozen } = this.valley;
    const rows = trained.steps.map((step, k) => [String(step), fixed(trained.share[k], 3), short(trained.width[k]), short(trained.floor[k]), short(frozen.width[k]), short(frozen.floor[k])]);
    return { columns: ["step", "t / T", "width", "floor", "width, frozen", "floor, frozen"], rows };
  }
}
