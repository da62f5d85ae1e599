// Training against test accuracy by width, static beside dynamical, regimes shaded.
const REGIMES = { underparameterised: ["c1", "underparameterised"], overparameterised: ["c0", "overparameterised"] };

class Widths {
  constructor(host, run, state) {
    Object.assign(this, { run, state });
    this.tested = ["test_accuracy", "val_accuracy"].find((m) => run.metrics.includes(m)) ?? null;
    this.shown = run.metrics.includes("train_accuracy") ? ["train_accuracy"] : [];
    if (this.tested) this.shown.push(this.tested);
    this.plot = new Plot(host, {
      label: () => this.label(),
      height: (w) => grid(2, w - 62, 290).rows * 290 + 24 + this.below(w),
      draw: (w, colours) => this.draw(w, colours),
      numbers: () => this.numbers(),
      caption: "Bars: 95% intervals of the means over seeds (left) and of the mean paired differences (right). Shaded: the regime, by whether the static loss reaches a training accuracy of 0.99.",
    });
    state.listeners.push(() => { if (state.view !== this.view) { this.view = state.view; this.plot.refresh(); } });
    this.view = state.view;
  }

  /** Room below the panels: the axis, and a legend that takes more lines where it is narrow. */
  below(w) { return 44 + 20 * (w < 480 ? 6 : w < 800 ? 3 : 2); }

  get rows() { return this.run.widthsOf(this.state.view); }

  label() {
    const { run, state } = this;
    return `Accuracy by width. ${this.rows.map((w) => {
      const s = run.staticOf(state.view, w.width);
      return `Width ${w.width} (${w.regime}): ` + this.shown.map((m) => `${said(m)} static ${s === null ? "–" : fixed(run.stats[m].mean[s])}, dynamical ${w.best === null ? "–" : fixed(run.stats[m].mean[w.best])}`).join("; ");
    }).join(". ")}.`;
  }

  draw(w, colours) {
    const { run, state, rows } = this;
    const height = this.plot?.spec.height(w) ?? 370;
    const g = grid(2, w - 62, 290), tall = height - 24 - this.below(w);
    const left = g.domain(0, tall), right = g.domain(1, tall);
    const widths = rows.map((r) => r.width), edges = borders(widths);
    const data = [], shapes = [], annotations = [];
    const put = (m, cells, pick, colour, open, name, shift, axes) => {
      const s = run.stats[m], [mean, low, high] = pick.map((k) => s[k]);
      const at = rows.map((r, i) => [r, cells[i]]).filter(([, c]) => c !== null && isNumber(mean[c]));
      data.push({ type: "scatter", mode: "lines+markers", name, x: at.map(([r]) => log(r.width) + shift), y: at.map(([, c]) => mean[c]),
        error_y: { type: "data", symmetric: false, array: at.map(([, c]) => high[c] - mean[c] || 0), arrayminus: at.map(([, c]) => mean[c] - low[c] || 0), color: colour, thickness: 1.5, width: 4 },
        line: { color: colour, width: 1.8, dash: open ? "dash" : "solid" }, marker: { color: open ? colours.paper : colour, size: 9, line: { color: colour, width: 2 } },
        text: at.map(([r, c]) => `width ${r.width}: ${pick[0] === "mean" ? fixed(mean[c]) : signed(mean[c])} (${range(low[c], high[c], pick[0] === "mean" ? fixed : signed)}), n = ${pick[0] === "mean" ? s.n[c] : s.pairs[c]}`),
        hovertemplate: `%{text}<extra>${name}</extra>`, ...axes });
    };
    const still = rows.map((r) => run.staticOf(state.view, r.width)), moving = rows.map((r) => r.best);
    const step = (edges.at(-1) - edges[0]) * 0.008;
    this.shown.forEach((m, i) => {
      const part = said(m).split(" ")[0];
      put(m, still, ["mean", "low", "high"], colours.ink, i, `static, ${part}`, -step, {});
      put(m, moving, ["mean", "low", "high"], colours.c0, i, `dynamical, ${part}`, step, {});
    });
    this.shown.forEach((m, i) => put(m, moving, ["change", "change_low", "change_high"], i ? colours.c2 : colours.c3, i,
      `difference, ${said(m).split(" ")[0]}`, i ? step : -step, { xaxis: "x2", yaxis: "y2" }));
    for (const [x, y, named] of [["x", "y domain", true], ["x2", "y2 domain", false]]) this.regimes(edges, x, y, shapes, annotations, colours, named || g.columns === 1, w);
    shapes.push({ type: "line", xref: "x2 domain", yref: "y2", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: colours.muted, width: 1.5 } });
    const x = { tickmode: "array", tickvals: widths.map(log), ticktext: widths.map(String), range: [edges[0], edges.at(-1)], title: { text: "width", standoff: 6 }, zeroline: false, showgrid: false };
    const heading = (text, d) => annotations.push({ text, xref: "paper", yref: "paper", x: d.x[0], y: d.y[1], yshift: 3, xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12.5 } });
    heading("accuracy, mean", left);
    heading("dynamical − static", right);
    return { data, layout: { margin: { l: 50, r: 12, t: 24, b: this.below(w) }, shapes, annotations, showlegend: true,
      legend: { orientation: "h", y: 0, yref: "container", yanchor: "bottom", x: 0, itemwidth: 30 },
      xaxis: { ...x, domain: left.x, anchor: "y" }, yaxis: { domain: left.y, anchor: "x", nticks: 6, zeroline: false },
      xaxis2: { ...x, domain: right.x, anchor: "y2" }, yaxis2: { domain: right.y, anchor: "x2", nticks: 6, zeroline: false } } };
  }

  /** Neighbouring widths of one regime are one area. */
  regimes(edges, xref, yref, shapes, annotations, colours, named) {
    const { rows } = this;
    for (let i = 0; i < rows.length;) {
      let j = i;
      while (j + 1 < rows.length && rows[j + 1].regime === rows[i].regime) j++;
      const [tone, name] = REGIMES[rows[i].regime] ?? [];
      if (tone) {
        shapes.push({ type: "rect", xref, yref, x0: edges[i], x1: edges[j + 1], y0: 0, y1: 1, fillcolor: faint(colours[tone], 0.11), line: { width: 0 }, layer: "below" });
        if (named) annotations.push({ text: j > i || rows.length === 1 ? name : name.replace("parameterised", "-"), xref, yref, x: (edges[i] + edges[j + 1]) / 2, y: 0.01, yanchor: "bottom", showarrow: false, font: { size: 11, color: colours[tone] } });
      }
      i = j + 1;
    }
  }

  numbers() {
    const { run, state, rows } = this;
    const columns = ["width", "regime", "parameters / P", "best cell", "quantity", "static", "95% interval", "dynamical", "95% interval", "difference", "95% interval", "pairs"];
    const lines = rows.flatMap((r) => this.shown.map((m) => {
      const s = run.stats[m], c = r.best, f = run.staticOf(state.view, r.width);
      const mean = (k) => (k === null ? ["–", "–"] : [fixed(s.mean[k]), range(s.low[k], s.high[k])]);
      return [String(r.width), r.regime, r.parameters && r.samples ? short(+(r.parameters / r.samples).toPrecision(2)) : "–",
        c === null ? "–" : `A ${short(run.cells.amplitude[c])}, T ${run.cells.period[c]}`, said(m), ...mean(f), ...mean(c),
        c === null ? "–" : signed(s.change[c]), c === null ? "–" : range(s.change_low[c], s.change_high[c], signed), c === null ? "–" : String(s.pairs[c])];
    }));
    return { columns, rows: lines };
  }
}
