"""A report of runs in Markdown: verdicts first, then tables and figures, then how it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tiltcli.claims import Finding
from tiltcli.claims.accuracy import accuracy_claims
from tiltcli.comparison import Comparison, compare
from tiltcli.confirm import choose
from tiltcli.records import UserError
from tiltcli.spec import load_sweep
from tiltcli.statistics import holm
from tiltcli.store.parts import write_whole
from tiltcli.store.read import Tables, find_run, read
from tiltcli.tables import interval, number, p_value, to_markdown

UNBUILT = (
    "The claims about curvature (instabilities at λ_max = 2/η, λ_max over the cycles, widening "
    "valleys) are not tested here: this version does not compute curvature."
)


@dataclass(frozen=True)
class Run:
    """A run as the report sees it.

    Attributes:
        folder: where it lies.
        tables: its tables.
        cells: most dynamical cells at any one width.
        static: its static jobs.
        dynamical: its dynamical jobs.

    """

    folder: Path
    tables: Tables
    cells: int
    static: pd.DataFrame
    dynamical: pd.DataFrame

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.tables.name

    @property
    def has_both(self) -> bool:
        """Whether static and dynamical jobs can be compared."""
        return len(self.static) > 0 and len(self.dynamical) > 0


def load_run(run: str | Path, results: Path) -> Run:
    """Read a run and see what it holds."""
    folder = find_run(run, results)
    tables = read(folder)
    if tables.jobs.empty:
        raise UserError(f"{tables.name}: no job has finished yet: there is nothing to report")
    dynamical = tables.jobs[tables.jobs["loss.kind"] == "dynamical"]
    static = tables.jobs[tables.jobs["loss.kind"] == "static"]
    keys = ["loss.amplitude", "loss.period"]
    cells = dynamical.groupby("model.width").apply(lambda jobs: len(jobs[keys].drop_duplicates()))
    return Run(folder, tables, int(cells.max()) if len(cells) else 0, static, dynamical)


def write_report(runs: Sequence[str | Path], output: Path, results: Path) -> None:
    """Write a report of runs, and its figures to a folder `figures` beside it.

    Runs with one cell per width, static beside dynamical, are judged; runs with several cells get
    a phase diagram; a single training gets its class weights and its trace.

    Args:
        runs: names under `results`, or paths.
        output: Markdown file.
        results: folder that runs are kept under.

    Raises:
        UserError: if a run is unknown or empty, or the report cannot be written.

    """
    if output.suffix.lower() != ".md":
        raise UserError(f"{output}: a report's name ends in .md (Markdown)")
    found = [load_run(run, results) for run in runs]
    figures = output.parent / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{figures}: cannot be written: {error.strerror or error}") from None
    lines = ["# Static against dynamical loss", ""]
    lines += _verdicts(found)
    for run in found:
        lines += ["", f"## {run.name}", "", *_about(run), ""]
        lines += _section(run, found, figures, output.parent)
    lines += ["", "## How this was made", "", *_provenance(found), ""]
    text = "\n".join(lines)
    write_whole(output, lambda to: to.write_text(text, encoding="utf-8"))


def _verdicts(runs: Sequence[Run]) -> list[str]:
    found = [
        (run, finding)
        for run in runs
        if run.has_both and run.cells == 1
        for finding in accuracy_claims(_comparison(run), run.static, run.dynamical)
    ]
    if not found:
        return ["No run here has one dynamical cell per width beside static: nothing is judged."]
    corrected = holm([finding.p for _, finding in found])
    return [
        "| claim | run | verdict | measured | mean difference | 95% interval | seeds | p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_verdict_row(*pair, p) for pair, p in zip(found, corrected, strict=True)),
        "",
        "A claim is held if the 95% interval of the mean difference lies above zero, not held if "
        "it does not reach above zero, and inconclusive otherwise. Intervals are over seeds "
        "(initial weights) on one draw of the data; p is an exact paired permutation test, "
        "corrected (Holm) over the rows of this table.",
        "",
        UNBUILT,
    ]


def _verdict_row(run: Run, finding: Finding, p: float) -> str:
    estimate = finding.estimate
    return (
        f"| {finding.claim} | {run.name} | **{finding.verdict}** | {finding.measured} | "
        f"{number(estimate.mean, sign=True)} | {interval(estimate.low, estimate.high)} | "
        f"{estimate.n} | {p_value(p)} |"
    )


def _comparison(run: Run, best: str | None = None) -> Comparison:
    metrics = [
        name
        for name in ("train_accuracy", "val_accuracy", "test_accuracy")
        if run.tables.jobs[name].notna().any()
    ]
    return compare(
        run.static,
        run.dynamical,
        name_a="static",
        name_b="dynamical",
        metrics=metrics,
        best=best,
        baseline=run.tables.jobs,
    )


def _about(run: Run) -> list[str]:
    jobs = run.tables.jobs
    counts = jobs["outcome"].value_counts()
    ended = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    seeds = jobs["train.seed"].nunique()
    epochs = ", ".join(str(e) for e in sorted(jobs["train.epochs"].unique()))
    return [
        f"{len(jobs)} jobs ({ended}); {seeds} seed{'s' if seeds > 1 else ''}; {epochs} epochs; "
        f"{jobs['train_samples'].max():.0f} training samples; {jobs['seconds'].sum():.0f} "
        "core-seconds of training."
    ]


def _section(run: Run, runs: Sequence[Run], figures: Path, base: Path) -> list[str]:
    if run.has_both and run.cells > 1:
        return _phase_section(run, figures, base)
    if run.has_both:
        return _judged_section(run, runs, figures, base)
    return _trace_section(run, figures, base)


def _phase_section(run: Run, figures: Path, base: Path) -> list[str]:
    from tiltcli.plots.phase import phase
    from tiltcli.plots.style import save

    metric = "val_accuracy" if run.tables.jobs["val_accuracy"].notna().any() else "train_accuracy"
    path = figures / f"{run.name}-phase.png"
    save(phase(run.tables.jobs, metric, run.name), path)
    lines = [_image(f"Phase diagram of {run.name}", path, base), ""]
    lines.append(f"The cell with the best mean {metric} of each width, on the same seeds:")
    return [*lines, "", to_markdown(_comparison(run, best=metric))]


def _judged_section(run: Run, runs: Sequence[Run], figures: Path, base: Path) -> list[str]:
    from tiltcli.plots.forest import forest
    from tiltcli.plots.style import save

    comparison = _comparison(run)
    path = figures / f"{run.name}-differences.png"
    save(forest(comparison), path)
    lines = [_image(f"Differences of {run.name}", path, base), ""]
    return [*lines, *_where_chosen(run, runs), "", to_markdown(comparison)]


def _where_chosen(run: Run, runs: Sequence[Run]) -> list[str]:
    """Say whether the cells are those that another run's validation chose, on other seeds."""
    columns = map(str, run.tables.jobs.columns)
    data = [name for name in columns if name.startswith("data.") and name != "data.path"]
    own = run.tables.jobs[data].drop_duplicates().reset_index(drop=True)
    cells = _cells(run.dynamical)
    for other in runs:
        if other is run or other.cells < 2:
            continue
        if not other.tables.jobs[data].drop_duplicates().reset_index(drop=True).equals(own):
            continue
        sweep = load_sweep(other.folder / "sweep.toml")
        chosen = {
            (
                choice.group.get("model.width"),
                choice.cell.get("loss.amplitude"),
                choice.cell.get("loss.period"),
            )
            for choice in choose(other.tables.jobs, sweep.axes, "val_accuracy")
        }
        again = set(run.tables.jobs["train.seed"]) & set(other.tables.jobs["train.seed"])
        seeds = f"{len(again)} seeds are shared with it" if again else "on seeds it never used"
        if cells <= chosen:
            return [f"Its cells are those that validation chose in {other.name}, {seeds}."]
        return [
            f"**Its cells are not those that validation chooses in {other.name}** ({seeds}): "
            f"`tiltcli confirm {other.name}` writes a grid of those."
        ]
    return ["Where its cells were chosen is not part of this report."]


def _cells(jobs: pd.DataFrame) -> set[tuple[Any, ...]]:
    keys = ["model.width", "loss.amplitude", "loss.period"]
    return {(int(w), float(a), int(t)) for w, a, t in jobs[keys].drop_duplicates().to_numpy()}


def _trace_section(run: Run, figures: Path, base: Path) -> list[str]:
    from tiltcli.plots.gamma import gamma_figure
    from tiltcli.plots.style import save
    from tiltcli.plots.trace import trace
    from tiltcli.traces import pick, trace_of

    one = trace_of(run.tables, pick(run.folder, run.tables, dynamical=False))
    lines = []
    if one.schedule is not None:
        path = figures / f"{run.name}-gamma.png"
        save(gamma_figure(one.schedule, run.name), path)
        lines += [_image(f"Class weights of {run.name}", path, base), ""]
    path = figures / f"{run.name}-trace.png"
    save(trace(one), path)
    return [*lines, _image(f"Trace of {run.name}", path, base)]


def _image(title: str, path: Path, base: Path) -> str:
    return f"![{title}]({Path(os.path.relpath(path, base)).as_posix()})"


def _provenance(runs: Sequence[Run]) -> list[str]:
    lines = []
    for run in runs:
        try:
            page = json.loads((run.folder / "provenance.json").read_text(encoding="utf-8"))
            last = page["invocations"][-1]
            libraries = ", ".join(
                f"{name} {last['libraries'][name]}"
                for name in ("numpy", "numba", "torch")
                if last["libraries"].get(name)
            )
            lines.append(
                f"- {run.name}: tiltcli {last['tiltcli']}, {last['processor']}, "
                f"{last['cores']} cores, Python {last['python']}, {libraries}; {last['time'][:10]}"
            )
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            lines.append(f"- {run.name}: its provenance cannot be read")
    return lines
