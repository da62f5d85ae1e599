// Every run's parts, and the theme.

/** A run's data with ways to ask for its cells. */
class RunData {
  constructor(page, key) {
    Object.assign(this, page, { key });
    this.stats = {};
    for (const [metric, s] of Object.entries(page.cells.stats)) {
      this.stats[metric] = Object.fromEntries(Object.entries(s).map(([k, v]) => [k, Array.isArray(v) ? v : unpack(v)]));
    }
    this.index = new Map();
    const { cells } = page;
    for (const c of cells.static.keys()) {
      const key_ = cells.static[c] ? `s${cells.outer[c]}/${cells.width[c]}` : `d${cells.view[c]}/${cells.width[c]}`;
      this.index.set(key_, [...(this.index.get(key_) ?? []), c]);
    }
    const moving = [...cells.static.keys()].filter((c) => !cells.static[c]);
    const rising = (list) => [...new Set(list)].sort((a, b) => a - b);
    this.axes = { amplitudes: rising(moving.map((c) => cells.amplitude[c])), periods: rising(moving.map((c) => cells.period[c])) };
  }

  dynamical(view, width) { return this.index.get(`d${view}/${width}`) ?? []; }
  staticOf(view, width) { return this.index.get(`s${this.outer_of[view]}/${width}`)?.[0] ?? null; }
  widthsOf(view) { return this.widths.filter((w) => w.view === view); }
  bestOf(view, width) { return this.widthsOf(view).find((w) => w.width === width)?.best ?? null; }

  /** The cell to look at first: the best, else any, else static; at the same place as another, if there is one. */
  defaultCell(view, width, like = null) {
    const own = this.dynamical(view, width);
    const same = like === null ? undefined : own.find((c) => this.cells.amplitude[c] === this.cells.amplitude[like] && this.cells.period[c] === this.cells.period[like]);
    return same ?? this.bestOf(view, width) ?? own[0] ?? this.staticOf(view, width);
  }

  /** The cell at an amplitude and period, or the nearest to it that keeps the one just chosen. */
  nearestCell(own, amplitude, period, keep) {
    const { cells } = this;
    const far = (c) => Math.abs(log(cells.amplitude[c] / amplitude)) + Math.abs(log(cells.period[c] / period));
    const kept = own.filter((c) => (keep === "amplitude" ? cells.amplitude[c] === amplitude : cells.period[c] === period));
    return kept.reduce((a, b) => (far(b) < far(a) ? b : a));
  }
}

function start(section) {
  const host = (name) => $(`[data-part="${name}"]`, section);
  const run = new RunData(JSON.parse($("script[type='application/json']", section).textContent), section.id);
  const maps = [];
  const state = { view: 0, metric: run.judge, change: false, cell: null, listeners: [] };
  const tell = () => { for (const listener of state.listeners) listener(); for (const map of maps) map.plot.refresh(); };
  state.pick = (cell, clicked = false) => {
    if (cell === null || cell === undefined) return;
    state.cell = cell;
    tell();
    const explorer = host("explorer");
    if (clicked && explorer) explorer.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };
  state.cell = run.defaultCell(0, run.widthsOf(0)[0].width);
  const controls = host("controls");
  if (controls) {
    if (run.views.length > 1) controls.append(choice("Setting", run.views.map((text, i) => [i, text]), 0, (v) => {
      state.view = +v;
      state.cell = run.defaultCell(state.view, run.widthsOf(state.view)[0].width);
      tell();
    })[0]);
    const still = run.cells.static.some(Boolean);
    const options = run.metrics.flatMap((m) => [[m, said(m)], ...(still ? [[`${m}:change`, `${said(m)} − static`]] : [])]);
    if (host("phase")) controls.append(choice("Show", options, run.judge, (v) => {
      [state.metric, state.change] = [v.split(":")[0], v.endsWith(":change")];
      for (const map of maps) map.plot.refresh();
    })[0]);
  }
  if (host("phase")) for (const { width } of run.widths.filter((w, i, all) => all.findIndex((o) => o.width === w.width) === i)) {
    if (!run.outer_of.some((_, view) => run.dynamical(view, width).length)) continue;
    const box = el("div", {}, el("h4", {}, `Width ${width}`));
    host("phase").append(box);
    maps.push(new PhaseMap(box, run, width, state));
  }
  if (host("widths")) new Widths(host("widths"), run, state);
  if (host("explorer")) new Explorer(host("explorer"), run, state);
  if (host("trace") && run.trace) new TracePlot(host("trace"), run.trace, "One training");
  if (host("zooms") && run.zooms.length) new Zooms(host("zooms"), run.zooms);
  if (host("valley") && run.valley) new ValleyPlot(host("valley"), run.valley);
  if (host("parallel")) new Parallel(host("parallel"), run.parallel);
  new Jobs(host("jobs"), run.jobs, section.dataset.name);
}

function theme() {
  const button = $(".theme"), root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  let kept = null;
  try { kept = localStorage.getItem("tiltcli-theme"); } catch { /* a page from disk may have no storage */ }
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("tiltcli-theme", root.dataset.theme); } catch { /* likewise */ }
    label();
    redraw();
  });
  system.addEventListener("change", () => { label(); redraw(); });
  label();
}

theme();
for (const section of $$("section.run")) start(section);
load().catch((error) => $("main").prepend(el("p", { class: "warning" },
  `This browser cannot draw the figures (${error.message}): the tables of numbers beside them are complete.`)));
