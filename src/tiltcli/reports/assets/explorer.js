// One cell looked at: its learning curves beside static's, its curvature, its class weights.
const CURVES = [["train_accuracy", "training accuracy"], ["val_accuracy", "validation accuracy"], ["train_loss", "static training loss (nat)"]];
const PROBES = [["hessian_max", "λ_max of F(·, t)"], ["hessian_max_static", "λ_max of the static loss"], ["ntk_max", "NTK λ_max"]];

/** Mean, low and high of a cell in the block of curves that has it; null where it was left out. */
function curveOf(blocks, cell, column) {
  for (const block of blocks) {
    block.place ??= new Map(block.cells.map((c, i) => [c, i]));
    const at = block.place.get(cell);
    const packed = block.columns[column];
    if (at === undefined || !packed) continue;
    packed.known ??= new Map();
    if (!packed.known.has(cell)) {
      const n = block.epochs.length, part = (one) => unpackPart(one, at * n, n);
      packed.known.set(cell, { x: block.epochs, logged: block.logged, mean: part(packed.mean), low: part(packed.low), high: part(packed.high) });
    }
    const found = packed.known.get(cell);
    return found.mean.some(isNumber) ? found : null;
  }
  return null;
}

class Explorer {
  constructor(host, run, state) {
    Object.assign(this, { run, state });
    this.controls = el("div", { class: "controls" });
    this.status = el("p", { class: "muted", "aria-live": "polite" });
    host.append(this.controls, this.status);
    this.curves = this.panels(host, CURVES, run.curves, "Learning curves");
    const { classes, schedules } = run.weights;
    if (run.probes.length) this.probes = this.panels(host, PROBES, run.probes, "Curvature", true);
    if (classes && schedules.length) this.gamma = new Plot(host, {
      label: () => `Class weights of ${this.name(state.cell)}: one class after the other rises from 1 to its peak and falls again, the others sink; their sum is ${classes}.`,
      height: () => 250,
      draw: (w, colours) => this.weights(w, colours),
      caption: `Γ(t) over one round of pulses${classes > 8 ? ` (the first 8 of ${classes} classes)` : ""}; the weights add up to ${classes} at every step. Dotted: the static loss.`,
    });
    state.listeners.push(() => this.update());
    this.update();
  }

  name(c) {
    const { cells } = this.run;
    const loss = cells.static[c] ? "static" : `amplitude ${short(cells.amplitude[c])}, period ${cells.period[c]}`;
    return cells.width[c] ? `width ${cells.width[c]}, ${loss}` : loss;
  }

  update() {
    const { run, state } = this;
    const { cells } = run, c = state.cell;
    const own = run.dynamical(state.view, cells.width[c]);
    const unique = (list) => [...new Set(list)].sort((a, b) => a - b).map((v) => [v, short(v)]);
    const focus = document.activeElement?.dataset?.key;
    this.controls.replaceChildren();
    const add = (key, label, options, value, change) => {
      const [box, select] = choice(label, options, value, change);
      select.dataset.key = `${run.key}-${key}`;
      this.controls.append(box);
    };
    const widths = run.widthsOf(state.view).map((w) => [w.width, short(w.width)]);
    if (widths.length > 1) add("width", "Width", widths, cells.width[c], (v) => state.pick(run.defaultCell(state.view, +v, c)));
    if (own.length > 1) {
      add("amplitude", "Amplitude", unique(own.map((i) => cells.amplitude[i])), cells.amplitude[c],
        (v) => state.pick(run.nearestCell(own, +v, cells.period[c], "amplitude")));
      add("period", "Period", unique(own.filter((i) => cells.amplitude[i] === cells.amplitude[c]).map((i) => cells.period[i])), cells.period[c],
        (v) => state.pick(run.nearestCell(own, cells.amplitude[c], +v, "period")));
    }
    if (focus) $(`[data-key="${CSS.escape(focus)}"]`, this.controls)?.focus();
    const lost = cells.diverged[c] + cells.failed[c];
    const drawn = curveOf(run.curves, c, "train_accuracy");
    const thinned = drawn && drawn.logged > drawn.x.length ? ` Drawn at ${drawn.x.length} of ${drawn.logged} logged epochs.` : "";
    const none = !drawn && cells.jobs[c] > lost ? " Its curves were left out to keep this page small: tiltcli plot curves draws them." : "";
    const text = this.name(c);
    this.status.textContent = `${text[0].toUpperCase()}${text.slice(1)}: ${plural(cells.jobs[c], "job")}${lost ? `, of which ${lost} lost (not in its curves)` : ""}.${thinned}${none}`;
    for (const plot of [this.curves, this.probes, this.gamma]) plot?.refresh();
  }

  panels(host, columns, blocks, title, edge = false) {
    const there = columns.filter(([name]) => blocks.some((b) => b.columns[name]));
    if (!there.length) return null;
    const { state, run } = this;
    const height = (w) => { const g = grid(there.length, w - 62); return g.rows * 220 + (g.rows - 1) * 40 + 80; };
    const sides = () => {
      const c = state.cell, s = run.staticOf(state.view, run.cells.width[c]);
      return [...(s === null || s === c ? [] : [[s, "static"]]), [c, run.cells.static[c] ? "static" : "dynamical"]];
    };
    return new Plot(host, {
      label: () => `${title} of ${this.name(state.cell)} beside static: ` + there.map(([name, text]) => sides().map(([c, who]) => {
        const found = curveOf(blocks, c, name);
        const last = found ? [...found.mean].filter(isNumber).at(-1) : NaN;
        return `${text} of ${who} ends at ${short(+last?.toPrecision(4))}`;
      }).join(", ")).join("; ") + ".",
      height,
      caption: edge ? "Geometric mean over the completed jobs; band: its 95% interval. Of two probes of F in a row the higher counts: on a 2-cycle λ_max is on two branches by turns. Dashed: 2/η, where gradient descent becomes unstable (2(1+β)/η with momentum β)."
        + (Object.keys(run.onsets).length ? " Ticks: onsets of instabilities of the dynamical jobs." : "") : "Mean over the completed jobs of a cell; band: 95% interval of the mean.",
      draw: (w, colours) => {
        const g = grid(there.length, w - 62), layout = { margin: { l: 50, r: 20, t: 46, b: 42 }, annotations: [], shapes: [],
          showlegend: true, legend: { orientation: "h", y: 1, yref: "container", x: 0, yanchor: "top" }, hovermode: "x unified" };
        const data = [];
        there.forEach(([name, text], i) => {
          const d = g.domain(i, height(w) - 88), x = axisName("x", i), y = axisName("y", i);
          const logarithmic = edge || name.endsWith("loss");
          for (const [c, who] of sides()) {
            const found = curveOf(blocks, c, name);
            if (found) data.push(...band(found.x, found.mean, found.low, found.high, who === "static" ? colours.ink : colours.c0, who,
              { xaxis: x, yaxis: y, legend: i === 0, log: logarithmic, write: logarithmic ? short : fixed }));
          }
          layout[axisKey("x", i)] = { domain: d.x, anchor: y, title: { text: "epoch", standoff: 6 }, nticks: 5, zeroline: false };
          const drawn = sides().flatMap(([c]) => { const found = curveOf(blocks, c, name); return found ? [...found.mean, ...(found.low ?? []), ...(found.high ?? [])] : []; });
          layout[axisKey("y", i)] = { domain: d.y, anchor: x, nticks: 6, zeroline: false, ...(logarithmic ? logAxis(drawn) : {}) };
          layout.annotations.push({ text, xref: "paper", yref: "paper", x: d.x[0], y: d.y[1], xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12.5 } });
          const bound = run.cells.bound[state.cell];
          if (!edge || !name.startsWith("hessian")) return;
          if (isNumber(bound)) layout.shapes.push({ type: "line", xref: `${x} domain`, yref: y, x0: 0, x1: 1, y0: bound, y1: bound, line: { color: colours.c1, width: 1.5, dash: "dash" } });
          for (const epoch of (name === "hessian_max" && run.onsets[state.cell]) || [])
            layout.shapes.push({ type: "line", xref: x, yref: `${y} domain`, x0: epoch, x1: epoch, y0: 0, y1: 0.06, line: { color: colours.c0, width: 1.5 } });
        });
        return { data, layout };
      },
      numbers: () => {
        const rows = [];
        for (const [name, text] of there) for (const [c, who] of sides()) {
          const found = curveOf(blocks, c, name);
          if (found) found.x.forEach((epoch, i) => rows.push([text, who, String(epoch), short(found.mean[i]), range(found.low?.[i], found.high?.[i], short)]));
        }
        return { columns: ["quantity", "loss", "epoch", "mean", "95% interval"], rows };
      },
    });
  }

  weights(w, colours) {
    const { run, state } = this;
    const { classes, of_cell, schedules } = run.weights;
    const one = schedules[of_cell[state.cell]];
    const empty = run.cells.static[state.cell] ? "The weights of the static loss are 1 throughout." : "Not on this page: tiltcli plot gamma draws it.";
    if (!one) return { data: [], layout: { xaxis: { visible: false }, yaxis: { visible: false }, annotations: [{ text: empty, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }] } };
    one.numbers ??= { up: unpack(one.up), down: unpack(one.down) };
    const shown = Math.min(classes, 8), steps = shown * one.pulse <= 200;
    const data = [];
    for (let i = 0; i < shown; i++) {
      const x = [], y = [];
      for (let k = 0; k < shown; k++) {
        one.steps.forEach((s, j) => { x.push(k * one.pulse + s); y.push((i === k ? one.numbers.up : one.numbers.down)[j]); });
      }
      // The last step lasts as long as the others.
      x.push(shown * one.pulse);
      y.push(y.at(-1));
      data.push({ type: "scatter", mode: "lines", x, y, name: `class ${i}`, line: { color: colours.c[i], width: 2, shape: steps ? "hv" : "linear" },
        hovertemplate: `step %{x}: Γ = %{y:.3f}<extra>class ${i}</extra>` });
    }
    return { data, layout: { margin: { l: 50, r: 12, t: 40, b: 42 }, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      xaxis: { title: { text: "optimiser step t", standoff: 6 }, range: [0, shown * one.pulse], nticks: 7, zeroline: false },
      yaxis: { title: { text: "class weight Γ", standoff: 4 }, rangemode: "tozero", nticks: 6 },
      shapes: [{ type: "line", xref: "x domain", yref: "y", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: colours.muted, width: 1.5, dash: "dot" } }] } };
  }
}
