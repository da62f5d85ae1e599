// All axes at once: a line per cell through its values, coloured by its mean; above, what goes with each axis.
class Parallel {
  constructor(host, found) {
    this.found = found;
    this.low = Math.min(...found.means);
    this.span = Math.max(...found.means) - this.low || 1;
    const shown = found.means.length < found.cells ? ` ${found.means.length} of ${found.cells} cells, evenly from the worst to the best.` : "";
    new Plot(host, {
      label: () => this.label(),
      height: () => 380,
      draw: (w, colours) => this.draw(w, colours),
      numbers: () => this.numbers(),
      caption: `A line is a cell; orange: the best. A dash: the cell does not have the axis.${shown}`,
    });
  }

  percent(v) { return isNumber(v) ? `${Math.round(100 * v)}%` : "–"; }

  label() {
    const { axes, cells, metric } = this.found;
    return `${cells} cells over ${axes.length} axes: of the variance of ${said(metric)}, ${axes.map((a) => `${this.percent(a.share)} with ${a.name}`).join(", ")}.`;
  }

  /** Height of a cell on an axis; cells of one value are spread a little by their means. */
  height(axis, i) {
    if (axis.at[i] < 0) return -0.12;
    const n = axis.levels.length, share = (this.found.means[i] - this.low) / this.span;
    return (axis.at[i] + 0.5 + 0.5 * (share - 0.5)) / n;
  }

  draw(w, colours) {
    const { axes, means, metric } = this.found, last = axes.length, BINS = 8;
    const share = (i) => (means[i] - this.low) / this.span;
    const points = means.map((_, i) => [...axes.map((axis) => this.height(axis, i)), share(i)]);
    const bins = Array.from({ length: BINS }, () => []);
    means.forEach((_, i) => bins[Math.min(Math.floor(share(i) * BINS), BINS - 1)].push(i));
    const lines = (of) => ({ x: of.flatMap(() => [...axes.keys(), last, null]), y: of.flatMap((i) => [...points[i], null]) });
    const data = bins.map((of, k) => ({ ...lines(of), type: "scatter", mode: "lines", hoverinfo: "skip",
      line: { color: faint(viridis((k + 0.5) / BINS, colours.ink).replaceAll(", ", ","), 0.75), width: 1.1 } }));
    data.push({ ...lines([means.length - 1]), type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: colours.c1, width: 2.4 } });
    const name = (i) => `${axes.filter((a) => a.at[i] >= 0).map((a) => `${plain(a.name)} ${plain(a.levels[a.at[i]])}`).join("<br>")}<br>${said(metric)} ${fixed(means[i])}`;
    const texts = means.map((_, i) => name(i));
    data.push({ x: points.flatMap((p) => [...p.keys()]), y: points.flat(), text: points.flatMap((p, i) => p.map(() => texts[i])), type: "scatter", mode: "markers",
      marker: { size: 9, opacity: 0 }, hovertemplate: "%{text}<extra></extra>" });
    const tight = w / (last + 1) < 75, annotations = [], shapes = [];
    [...axes.map((a) => [plain(a.name), a]), [tight ? metric.replaceAll("_", " ") : said(metric), null]].forEach(([title, axis], x) => {
      shapes.push({ type: "line", x0: x, x1: x, y0: 0, y1: 1, line: { color: colours.muted, width: 1 } });
      const about = axis ? `${title}<br>${this.percent(axis.share)}${tight ? "" : ` (${this.percent(axis.low)} … ${this.percent(axis.high)})`}` : title;
      annotations.push({ x, y: 1.02, yanchor: "bottom", xanchor: tight ? "left" : "center", textangle: tight ? -40 : 0, text: about, showarrow: false, font: { size: 11 } });
      const named = axis ? axis.levels.map((text, k) => [plain(text), (k + 0.5) / axis.levels.length]) : [0, 0.5, 1].map((k) => [fixed(this.low + k * this.span, 3), k]);
      const every = Math.ceil(named.length / 10);
      named.forEach(([text, y], k) => { if (k % every === 0) annotations.push({ x, y, xanchor: "right", xshift: -3, text, showarrow: false, font: { size: 10 }, bgcolor: faint(colours.paper, 0.7), borderpad: 1 }); });
      if (axis?.at.some((k) => k < 0)) annotations.push({ x, y: -0.12, xanchor: "right", xshift: -3, text: "–", showarrow: false, font: { size: 10 } });
    });
    return { data, layout: { margin: { l: 56, r: tight ? 66 : 70, t: tight ? 112 : 56, b: 14 }, hovermode: "closest", annotations, shapes,
      xaxis: { visible: false, range: [-0.02, last + 0.02] }, yaxis: { visible: false, range: [-0.2, 1.02] } } };
  }

  numbers() {
    return { columns: ["axis", "importance", "95% interval", "values"], rows: this.found.axes.map((a) =>
      [a.name, isNumber(a.share) ? fixed(a.share, 3) : "–", range(a.low, a.high, (v) => fixed(v, 3)), a.levels.join(", ")]) };
  }
}
