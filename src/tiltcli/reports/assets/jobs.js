// The table of jobs: filtered, sorted, a page of rows at a time.
const PAGE = 100;

/** A column's name as a heading: settings without their table, results in words. */
const heading = (column) => ({ "loss.kind": "loss", "data.seed": "data seed" }[column] ?? column.split(".").at(-1).replaceAll("_", " "));

class Jobs {
  constructor(host, jobs, name) {
    Object.assign(this, { jobs, name, sort: null, down: false, words: "", outcome: "" });
    this.texts = jobs.rows.map((row) => row.slice(0, -1).map((v) => (v === null ? "–" : String(v))));
    this.hay = this.texts.map((row, i) => `${row.join(" ")} ${jobs.errors[jobs.rows[i].at(-1)] ?? ""}`.toLowerCase());
    const counts = new Map();
    for (const row of jobs.rows) counts.set(row[1], (counts.get(row[1]) ?? 0) + 1);
    const input = el("input", { type: "search", autocomplete: "off", placeholder: "dynamical 300", oninput: () => { this.words = input.value; this.from(); } });
    const [box] = choice("Outcome", [["", "all"], ...[...counts].map(([o, n]) => [o, `${o} (${n})`])], "", (v) => { this.outcome = v; this.from(); });
    this.status = el("p", { class: "muted", role: "status" });
    this.body = el("tbody");
    this.heads = jobs.columns.map((column, i) => el("th", { scope: "col" },
      el("button", { type: "button", onclick: () => { this.down = this.sort === i && !this.down; this.sort = i; this.from(); } }, heading(column))));
    this.more = el("button", { type: "button", onclick: () => { this.limit += PAGE; this.show(); } }, "Show more rows");
    if (jobs.rows.length < jobs.total) host.append(el("p", { class: "warning" }, this.cut()));
    host.append(
      el("div", { class: "controls" }, el("label", {}, "Rows with all of these words", input), box), this.status,
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Jobs of ${name}` },
        el("table", {}, el("caption", { class: "hidden" }, `Jobs of ${name}`),
          el("thead", {}, el("tr", {}, ...this.heads, jobs.errors.length ? el("th", { scope: "col" }, "error") : null)), this.body)),
      this.more);
    this.from();
  }

  cut() {
    const { rows, total, lost, lost_shown: shown } = this.jobs;
    const bad = lost ? `${shown === lost ? `all ${plural(lost, "job")}` : `the first ${shown.toLocaleString("en")} of ${plural(lost, "job")}`} that diverged or failed, then ` : "";
    return `This table holds ${rows.length.toLocaleString("en")} of ${plural(total, "job")}: ${bad}the first ${(rows.length - shown).toLocaleString("en")} completed ones. All of them are in the run's jobs table (tiltcli.read("…").jobs, or its jobs/*.parquet).`;
  }

  from() { this.limit = PAGE; this.show(); }

  show() {
    const { rows } = this.jobs;
    const words = this.words.toLowerCase().split(/\s+/).filter(Boolean);
    let found = [...rows.keys()].filter((i) => (!this.outcome || rows[i][1] === this.outcome) && words.every((w) => this.hay[i].includes(w)));
    if (this.sort !== null) {
      const k = this.sort, sign = this.down ? -1 : 1;
      const less = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : +(String(a) > String(b)));
      // Missing values come last whichever way the rows are sorted.
      found = found.sort((a, b) => (rows[a][k] === null) - (rows[b][k] === null) || sign * less(rows[a][k], rows[b][k]) || a - b);
    }
    this.heads.forEach((head, i) => { if (i === this.sort) head.setAttribute("aria-sort", this.down ? "descending" : "ascending"); else head.removeAttribute("aria-sort"); });
    const shown = found.slice(0, this.limit);
    this.status.textContent = `${plural(found.length, "row")} found${found.length > shown.length ? `, the first ${shown.length} shown` : ""}.`;
    this.more.hidden = found.length <= shown.length;
    this.body.replaceChildren(...shown.map((i) => this.row(i)));
  }

  row(i) {
    const { rows, errors } = this.jobs, outcome = rows[i][1];
    const cells = this.texts[i].map((text, k) => (k === 0 ? el("th", { scope: "row" }, el("code", {}, text.slice(0, 8)))
      : el("td", k === 1 ? { class: outcome } : {}, minus(text))));
    if (errors.length) cells.push(this.error(errors[rows[i].at(-1)]));
    return el("tr", {}, ...cells);
  }

  error(text) {
    if (!text) return el("td");
    const lines = text.trim().split("\n"), last = lines.at(-1);
    if (lines.length === 1 && last.length < 120) return el("td", { class: "wrap" }, text);
    return el("td", { class: "wrap" }, el("details", {}, el("summary", {}, last.slice(0, 140)), el("pre", {}, text)));
  }
}
