// Phase diagrams: a map of amplitude × period per width, on logarithmic axes.
const log = Math.log10;

/** Borders of cells around points on a logarithmic axis. */
function borders(values) {
  const p = values.map((v) => log(v));
  if (p.length === 1) return [p[0] - 0.15, p[0] + 0.15];
  const inner = p.slice(1).map((v, i) => (v + p[i]) / 2);
  return [p[0] - (inner[0] - p[0]), ...inner, p.at(-1) + (p.at(-1) - inner.at(-1))];
}

/** Ticks at the values themselves; where they crowd, some are left out. */
function ticks(values, pixels, least) {
  const p = values.map((v) => log(v));
  const scale = pixels / Math.max(borders(values).at(-1) - borders(values)[0], 1e-9);
  const kept = [];
  for (const i of p.keys()) if (!kept.length || (p[i] - p[kept.at(-1)]) * scale >= least) kept.push(i);
  return { tickmode: "array", tickvals: kept.map((i) => p[i]), ticktext: kept.map((i) => short(values[i])) };
}

/** What a map shows: a mean, or the difference to static. */
function shownValues(run, metric, change) {
  const s = run.stats[metric];
  return change ? { mean: s.change, low: s.change_low, high: s.change_high }
    : { mean: s.mean, low: s.low, high: s.high };
}

function cellText(run, c, metric) {
  const { cells } = run, s = run.stats[metric];
  const what = cells.static[c] ? "static" : `amplitude ${short(cells.amplitude[c])}, period ${cells.period[c]}`;
  const lines = [`<b>${what}</b>`, `${said(metric)} ${fixed(s.mean[c])}`,
    `95% interval ${range(s.low[c], s.high[c])}`, `n = ${plural(s.n[c], "job")}`];
  if (isNumber(s.change[c]))
    lines.push(`− static: ${signed(s.change[c])} (${range(s.change_low[c], s.change_high[c], signed)}; ${plural(s.pairs[c], "pair")})`);
  lines.push(`lost: ${cells.diverged[c]} diverged, ${cells.failed[c]} failed of ${cells.jobs[c]}`);
  return lines;
}

class PhaseMap {
  constructor(host, run, width, state) {
    Object.assign(this, { run, width, state });
    this.plot = new Plot(host, {
      label: () => this.label(),
      height: (w) => Math.round(Math.min(330, Math.max(230, w * 0.74))),
      draw: (w, colours) => this.draw(w, colours),
      numbers: () => this.numbers(),
      click: (point) => { if (isNumber(point.customdata)) state.pick(point.customdata, true); },
    });
  }

  lost(c) { return this.run.cells.diverged[c] + this.run.cells.failed[c]; }

  get ids() { return this.run.dynamical(this.state.view, this.width); }

  label() {
    const { run, state } = this;
    const { mean } = shownValues(run, state.metric, state.change);
    const found = this.ids.filter((c) => isNumber(mean[c]));
    const fixedCell = run.staticOf(state.view, this.width);
    const level = fixedCell === null ? "no static baseline" : `static ${fixed(run.stats[state.metric].mean[fixedCell])}`;
    const head = `Width ${this.width}: ${said(state.metric)}${state.change ? " minus static" : ""} over ${plural(this.ids.length, "cell")} of amplitude and period; ${level}`;
    if (!found.length) return `${head}; no completed job.`;
    const best = found.reduce((a, b) => (mean[b] > mean[a] ? b : a));
    const least = found.reduce((a, b) => (mean[b] < mean[a] ? b : a));
    return `${head}; from ${fixed(mean[least])} to ${fixed(mean[best])}, highest at amplitude ${short(run.cells.amplitude[best])}, period ${run.cells.period[best]}.`;
  }

  scale(means, colours) {
    const { run, state } = this;
    if (state.change) {
      const reach = Math.max(5e-4, ...means.map(Math.abs));
      return { low: -reach, high: reach, colours: [[0, colours.c1], [0.5, colours.middle], [1, colours.c0]] };
    }
    const fixedCell = run.staticOf(state.view, this.width);
    const all = [...means];
    if (fixedCell !== null && isNumber(run.stats[state.metric].mean[fixedCell])) all.push(run.stats[state.metric].mean[fixedCell]);
    let low = Math.min(...all), high = Math.max(...all);
    if (!all.length) [low, high] = [0, 1];
    // A scale over nothing would paint noise as structure.
    if (high - low < 1e-3) [low, high] = [(low + high) / 2 - 5e-4, (low + high) / 2 + 5e-4];
    const margin = 0.02 * (high - low);
    return { low: low - margin, high: high + margin, colours: CIVIDIS };
  }

  draw(w, colours) {
    const { run, state } = this;
    const { cells } = run;
    const { amplitudes, periods } = run.axes;
    const { mean } = shownValues(run, state.metric, state.change);
    const row = new Map(amplitudes.map((a, i) => [a, i])), column = new Map(periods.map((t, i) => [t, i]));
    const blank = () => amplitudes.map(() => periods.map(() => null));
    const z = blank(), grey = blank(), text = blank(), custom = blank();
    for (const c of this.ids) {
      const i = row.get(cells.amplitude[c]), j = column.get(cells.period[c]);
      if (isNumber(mean[c]) && this.lost(c) < cells.jobs[c]) z[i][j] = mean[c];
      else grey[i][j] = 1;
      text[i][j] = cellText(run, c, state.metric).join("<br>");
      custom[i][j] = c;
    }
    // Colours are of cells that lost no job, where there are any: chance would leave none for the rest.
    const sound = this.ids.filter((c) => !this.lost(c)), shown = sound.length ? sound : this.ids;
    const means = shown.map((c) => mean[c]).filter(isNumber);
    const scale = this.scale(means, colours);
    const x = borders(periods), y = borders(amplitudes);
    const margin = { l: 46, r: 46, t: 26, b: 42 };
    const inner = w - margin.l - margin.r, tall = this.plot?.spec.height(w) - margin.t - margin.b || 200;
    const share = 0.86;
    const map = { type: "heatmap", x, y, hovertemplate: "%{text}<extra></extra>", showscale: false, text, customdata: custom };
    const data = [
      { ...map, z: grey, colorscale: [[0, colours.lost], [1, colours.lost]], hoverongaps: false },
      { ...map, z, colorscale: scale.colours, zmin: scale.low, zmax: scale.high, hoverongaps: false },
      this.bar(scale),
    ];
    const shapes = [], annotations = [];
    this.texts(data, mean, scale, colours, inner * share, tall);
    const best = run.bestOf(state.view, this.width);
    if (best !== null) shapes.push(this.box(best, x, y, { color: colours.c1, width: 3 }));
    if (state.cell !== null && cells.width[state.cell] === this.width && !cells.static[state.cell])
      shapes.push(this.box(state.cell, x, y, { color: colours.ink, width: 2, dash: "dot" }));
    this.level(shapes, annotations, colours);
    return { data, layout: {
      margin, shapes, annotations, dragmode: false,
      xaxis: { domain: [0, share], range: [x[0], x.at(-1)], ...ticks(periods, inner * share, 34), showgrid: false, zeroline: false, fixedrange: true, title: { text: "period T (steps)", standoff: 6 } },
      yaxis: { range: [y[0], y.at(-1)], ...ticks(amplitudes, tall, 16), showgrid: false, zeroline: false, fixedrange: true, title: { text: "amplitude A", standoff: 6 } },
      xaxis2: { domain: [share + 0.035, share + 0.085], visible: false, fixedrange: true, range: [0, 1] },
      yaxis2: { range: [scale.low, scale.high], side: "right", anchor: "x2", nticks: 5, fixedrange: true, showgrid: false, zeroline: false, tickfont: { size: 11 } },
    } };
  }

  bar(scale) {
    const steps = 64, at = [...Array(steps + 1).keys()].map((i) => scale.low + (scale.high - scale.low) * i / steps);
    return { type: "heatmap", x: [0, 1], y: at, z: at.slice(1).map((v, i) => [(v + at[i]) / 2]), xaxis: "x2", yaxis: "y2",
      colorscale: scale.colours, zmin: scale.low, zmax: scale.high, showscale: false, hoverinfo: "skip" };
  }

  /** The static level on the bar, with its interval. */
  level(shapes, annotations, colours) {
    const { run, state } = this;
    const cell = run.staticOf(state.view, this.width);
    const s = run.stats[state.metric];
    if (cell === null || !isNumber(s.mean[cell])) {
      annotations.push({ text: "no static", xref: "paper", x: 1.1, xanchor: "right", yref: "paper", y: 1.02, yanchor: "bottom", showarrow: false, font: { size: 11, color: colours.muted } });
      return;
    }
    const at = state.change ? 0 : s.mean[cell];
    const line = { type: "line", xref: "x2", yref: "y2", x0: -0.25, x1: 1.25, y0: at, y1: at, line: { color: colours.c1, width: 4 } };
    if (!state.change && isNumber(s.low[cell]))
      shapes.push({ type: "line", xref: "x2", yref: "y2", x0: 0.5, x1: 0.5, y0: s.low[cell], y1: s.high[cell], line: { color: colours.c1, width: 2 } });
    shapes.push(line);
    annotations.push({ text: `static ${fixed(s.mean[cell], 3)}`, xref: "paper", x: 1.12, xanchor: "right", yref: "paper", y: 1.02, yanchor: "bottom", showarrow: false, font: { size: 12, color: colours.c1 } });
  }

  box(c, x, y, line) {
    const j = this.run.axes.periods.indexOf(this.run.cells.period[c]);
    const i = this.run.axes.amplitudes.indexOf(this.run.cells.amplitude[c]);
    return { type: "rect", x0: x[j], x1: x[j + 1], y0: y[i], y1: y[i + 1], line };
  }

  /** The means written into the cells where they fit, and lost jobs in any case that has room. */
  texts(data, mean, scale, colours, wide, tall) {
    const { cells, axes } = this.run;
    const x = borders(axes.periods), y = borders(axes.amplitudes);
    const narrow = Math.min(...x.slice(1).map((v, i) => v - x[i])) / (x.at(-1) - x[0]) * wide;
    const flat = Math.min(...y.slice(1).map((v, i) => v - y[i])) / (y.at(-1) - y[0]) * tall;
    if (narrow < 34 || flat < 17) return;
    const shown = this.ids.map((c) => {
      const lost = cells.diverged[c] + cells.failed[c];
      const value = isNumber(mean[c]) ? (this.state.change ? signed(mean[c], 3) : fixed(mean[c], 3)) : "";
      const note = lost ? `${lost}/${cells.jobs[c]} lost` : "";
      return { c, text: flat < 30 && value ? value + (note ? "*" : "") : [value, note].filter(Boolean).join("<br>") };
    });
    const tint = (c) => {
      if (!isNumber(mean[c]) || this.lost(c) === cells.jobs[c]) return colours.ink;
      const share = (mean[c] - scale.low) / (scale.high - scale.low);
      if (this.state.change) return Math.abs(share - 0.5) > 0.38 ? colours.paper : colours.ink;
      return share < 0.475 ? "#ffffff" : "#000000"; // whichever has the higher contrast
    };
    data.push({ type: "scatter", mode: "text", x: shown.map((s) => log(cells.period[s.c])), y: shown.map((s) => log(cells.amplitude[s.c])),
      text: shown.map((s) => s.text), textfont: { size: narrow < 42 ? 10 : 11, color: shown.map((s) => tint(s.c)) }, hoverinfo: "skip", cliponaxis: false });
  }

  numbers() {
    const { run, state } = this;
    const { cells } = run, s = run.stats[state.metric];
    const columns = ["amplitude", "period", "mean", "95% interval", "n", "diverged", "failed", "− static", "95% interval", "pairs"];
    const line = (c) => [cells.static[c] ? "static" : short(cells.amplitude[c]), cells.static[c] ? "–" : cells.period[c],
      fixed(s.mean[c]), range(s.low[c], s.high[c]), s.n[c], cells.diverged[c], cells.failed[c],
      signed(s.change[c]), isNumber(s.change_low[c]) ? range(s.change_low[c], s.change_high[c], signed) : "–", s.pairs[c]].map(String);
    const fixedCell = run.staticOf(state.view, this.width);
    return { columns, rows: [...(fixedCell === null ? [] : [fixedCell]), ...this.ids].map(line) };
  }
}
