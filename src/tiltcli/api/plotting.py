"""`tiltcli.plot`, and its kinds of figures: one line of a table and one function for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.errors import UserError, with_suggestion

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from tiltcli.analysis.traces import Trace
    from tiltcli.plots.style import Look
    from tiltcli.store.read import Tables


def plot(
    kind: str,
    *runs: str | Path,
    output: str | Path | None = None,
    results: str | Path = "results",
    where: Sequence[str] = (),
    metric: str | None = None,
    job: str | None = None,
    zoom: tuple[int, int] | None = None,
    x: str | None = None,
    y: str | None = None,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    width: float = 7.0,
    style: str = "screen",
    say: Callable[[str], None] | None = None,
) -> Figure:
    """Draw a run; a notebook shows the figure.

    Args:
        kind: "phase", "map", "curves", "recall", "gamma", "trace", "curvature", "plane",
            "alignment", "density", "valley", "bifurcation", "budget" or "compare".
        runs: a run, or two for "compare"; each a name or a path, with an optional selection.
        output: file to write as well, .png, .svg or .pdf.
        results: folder that runs are kept under.
        where: conditions on the jobs, such as `model.width == 30`.
        metric: column to draw ("phase", "map", "curves", "recall", "budget").
        job: id of a job, or its beginning ("gamma", "trace", "curvature", "valley",
            "bifurcation").
        zoom: first and last step to enlarge ("trace").
        x: setting of the columns ("map").
        y: setting of the rows ("map").
        methods: settings that tell methods apart ("budget").
        by: settings that tell rows apart ("budget").
        width: inches.
        style: "paper", "screen" or "dark".
        say: told what the figure leaves out; None: written to stderr.

    Returns:
        the figure.

    Raises:
        UserError: for an unknown kind or run, and for what the kind cannot draw.

    """
    from tiltcli.evaluation.selection import narrowed
    from tiltcli.plots.style import Look, check_path, save
    from tiltcli.store.read import find_run, read

    if kind not in KINDS:
        raise UserError(with_suggestion(f"kind: got {kind}", kind, KINDS))
    chosen, names = KINDS[kind], tuple(map(str, runs))
    if not 1 <= len(names) <= chosen.most_runs:
        many = " ".join(names) or "none"
        raise UserError(f"{kind} draws {chosen.most_runs} run, not {len(names)}: {many}")
    name, _, selection = names[0].partition("@")
    folder = find_run(name, Path(results))
    if output is not None:
        check_path(Path(output))
    tables = narrowed(read(folder), [selection, *where], job)
    given = {"metric": metric, "job": job, "zoom": zoom, "methods": methods, "by": by}
    given |= {"x": x, "y": y}
    chosen.check(given, tables)
    look, say = Look(style, width), say or _say
    request = Request(folder, Path(results), tables, names, tuple(where), given, look, say)
    figure = chosen.draw(request)
    if output is not None:
        save(figure, Path(output))
    return figure


def _say(note: str) -> None:
    sys.stderr.write(f"note: {note}\n")


MOST_SCHEDULES = 8
"""Panels of a figure of class weights."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, read and narrowed; the functions below take what they need of it."""

    folder: Path  # of the run
    results: Path  # folder that runs are kept under
    tables: Tables  # the run's tables; `jobs` holds only the jobs that were selected
    # the runs as they were named, with their selections; one, or two for `compare`
    runs: tuple[str, ...]
    where: tuple[str, ...]  # conditions of --where
    given: Mapping[str, Any]  # the options that only some kinds have, by name; None if not given
    look: Look  # style and width
    say: Callable[[str], None]  # told what the figure leaves out

    @property
    def title(self) -> str:
        """Name of the run, and what was selected of it: a figure says what it leaves out."""
        said = ", ".join(filter(None, [self.runs[0].partition("@")[2], *self.where]))
        return f"{self.tables.name} ({said})" if said else self.tables.name

    def one(self, *, dynamical: bool = False) -> Trace:
        """Return one training of the selected: the first; a dynamical one if there is any."""
        from tiltcli.analysis.traces import pick

        one = pick(self.folder, self.tables, dynamical=dynamical)
        if (many := len(self.tables.jobs)) > 1:
            self.say(f"{many} jobs; drawn: {one.job.id} (choose with --job or --where)")
        return one

    def warn(self, jobs: pd.DataFrame) -> None:
        """Say where the rows of jobs are no fair sample of their pulses."""
        import numpy as np
        import pandas as pd

        from tiltcli.analysis.aliasing import Logged, aliasing

        tilted = jobs[jobs["loss.kind"].eq("dynamical") & jobs["loss.timing"].ne("noise")]
        sizes = tilted["train.batch_size"].fillna(tilted["train_samples"])
        logs = pd.DataFrame(
            {
                "pulse": tilted["loss.period"] + tilted["loss.rest"],
                "every": tilted["train.log_every"],
                "updates": np.ceil(tilted["train_samples"] / sizes),
            }
        )
        known = logs.dropna().drop_duplicates().astype(int).to_numpy().tolist()
        if note := aliasing(Logged(*one) for one in known):
            self.say(note)

    def all(self) -> list[Trace]:
        """All trainings that were selected."""
        from tiltcli.analysis.traces import traces_of

        return traces_of(self.folder, self.tables, list(self.tables.jobs["job"]))


@dataclass(frozen=True)
class Kind:
    """A kind of figure."""

    name: str  # as typed
    says: str  # what it shows, a few words for the help
    # makes the figure; imports matplotlib and the like only when it is called
    draw: Callable[[Request], Figure]
    # options of `plot` that it understands, beyond those every kind has
    options: tuple[str, ...] = ()
    probes: bool = False  # whether it needs rows in the probes table
    most_runs: int = 1  # runs it takes

    def check(self, given: Mapping[str, Any], tables: Tables) -> None:
        """Refuse what this kind cannot use or do without."""
        used = [name for name, value in given.items() if value is not None]
        wrong = [f"{self.name} has no use for --{n}" for n in used if n not in self.options]
        if self.probes and not tables.probes["job"].isin(tables.jobs["job"]).any():
            wrong.append(
                f"{tables.name}: {self.name} needs curvature along the way, which was not probed; "
                'a [probe] table with quantities = ["hessian"] in the grid file has it measured'
            )
        if wrong:
            raise UserError(*wrong)


def _phase(request: Request) -> Figure:
    from tiltcli.evaluation.cells import choosing_metric
    from tiltcli.plots.phase import phase

    jobs = request.tables.jobs
    metric = request.given["metric"] or choosing_metric(jobs)
    axes = {name: request.given[name] for name in ("x", "y") if request.given[name]}
    return phase(jobs, metric, request.title, request.look, **axes)


def _curves(request: Request) -> Figure:
    from tiltcli.plots.curves import curves

    tables, metric = request.tables, request.given["metric"] or "train_accuracy"
    request.warn(tables.jobs)
    return curves(tables.jobs, tables.metrics, metric, request.title, request.look)


def _recall(request: Request) -> Figure:
    from tiltcli.plots.curves import recalls

    tables, metric = request.tables, request.given["metric"] or "train_recall"
    request.warn(tables.jobs)
    return recalls(tables.jobs, tables.recall, metric, request.title, request.look)


def _gamma(request: Request) -> Figure:
    from tiltcli.analysis.traces import traces_of
    from tiltcli.plots.gamma import gamma_figure

    one = request.one(dynamical=True)
    jobs = request.tables.jobs
    tilt = ["loss.amplitude", "loss.period", "loss.rest", "loss.shape"]
    alike = jobs[(jobs[tilt] == jobs.loc[jobs["job"] == one.job.id, tilt].iloc[0]).all(axis=1)]
    first = alike.drop_duplicates(["loss.order", "loss.groups", "loss.timing", "loss.half_life"])
    shown = traces_of(request.folder, request.tables, list(first["job"])[:MOST_SCHEDULES])
    if (others := len(shown) - 1) > 0:
        request.say(f"and of its amplitude, period, rest and shape {others} other schedules")
    schedules = [found.schedule for found in shown if found.schedule is not None]
    return gamma_figure(schedules, request.tables.name, request.look, one.labels)


def _trace(request: Request) -> Figure:
    from tiltcli.plots.trace import trace

    one, jobs = request.one(), request.tables.jobs
    request.warn(jobs[jobs["job"] == one.job.id])
    return trace(one, request.given["zoom"], request.look)


def _of_all(name: str, says: str) -> Kind:
    """A kind that draws what was probed of all trainings."""

    def draw(request: Request) -> Figure:
        from tiltcli.plots import curvature

        figure: Figure = getattr(curvature, name)(request.all(), request.title, request.look)
        return figure

    return Kind(name, says, draw, ("job",), probes=True)


def _density(request: Request) -> Figure:
    from tiltcli.plots.spectra import spectra

    return spectra(request.one(), request.look)


def _valley(request: Request) -> Figure:
    from tiltcli.analysis.valleys import valleys_of
    from tiltcli.plots.valley import valley

    one = request.one(dynamical=True)
    jobs = request.tables.jobs.set_index("job")
    request.say("the first pulses are trained again, to see the weights on the way")
    return valley(one, valleys_of(one, str(jobs.loc[one.job.id, "engine"])), request.look)


def _bifurcation(request: Request) -> Figure:
    from tiltcli.analysis.traces import jobs_of
    from tiltcli.curvature.stability import stability_bound
    from tiltcli.plots.bifurcation import MOST, bifurcation
    from tiltcli.store.branch_rows import read_branches

    own = set(request.tables.jobs["job"])
    found = {b: rows for b, rows in read_branches(request.folder).items() if b.job in own}
    if not found:
        raise UserError(
            f"{request.tables.name}: no branch of it has been made; tiltcli branch "
            f"{request.tables.name} --epoch E makes one"
        )
    jobs = sorted({branch.job for branch in found})
    if len(jobs) > 1:
        raise UserError(f"--job: {len(jobs)} jobs have branches; give one of {', '.join(jobs)}")
    if len(found) > MOST:
        request.say(f"{len(found)} branches; drawn: those of the {MOST} latest epochs")
    drawn = sorted(found, key=lambda b: (b.epoch, b.frozen, b.steps, b.keep))[-MOST:]
    bound = stability_bound(jobs_of(request.folder, jobs)[0].settings)
    edge = bound if bound is not None and bound.column == "hessian_max" else None
    return bifurcation({b: found[b] for b in drawn}, edge, request.title, request.look)


def _compare(request: Request) -> Figure:
    from tiltcli.api.finished_runs import compare
    from tiltcli.evaluation.cells import choosing_metric
    from tiltcli.plots.forest import forest

    runs, best = request.runs, None
    if len(runs) == 1:
        join = "," if "@" in runs[0] else "@"
        runs = tuple(f"{runs[0]}{join}loss.kind={kind}" for kind in ("static", "dynamical"))
        best = choosing_metric(request.tables.jobs)
    found = compare(*runs, results=request.results, where=request.where, best=best)
    for note in found.notes:
        request.say(note)
    return forest(found, request.look)


def _budget(request: Request) -> Figure:
    from tiltcli.evaluation.cells import choosing_metric
    from tiltcli.evaluation.tuning import budgets, tune
    from tiltcli.grid.settings import METHODS
    from tiltcli.plots.budget import budget

    jobs, name = request.tables.jobs, request.tables.name
    judge, metric = choosing_metric(jobs), request.given["metric"] or "test_accuracy"
    tuning = tune(jobs, judge, methods=request.given["methods"] or METHODS, by=request.given["by"])
    return budget(budgets(tuning, jobs, metric), metric, judge, name, request.look)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("phase", "means over amplitude × period", _phase, ("metric",)),
        Kind("map", "means over any two settings", _phase, ("metric", "x", "y")),
        Kind("curves", "learning curves, static against the best cells", _curves, ("metric",)),
        Kind("recall", "learning curves of each class, a panel per cell", _recall, ("metric",)),
        Kind("gamma", "the class weights Γ(t)", _gamma, ("job",)),
        Kind("trace", "one training step by step", _trace, ("job", "zoom")),
        _of_all("curvature", "λ_max of Hessian and NTK along trainings"),
        _of_all("plane", "loss against sharpness, a curve per cell"),
        _of_all("alignment", "classes' gradients along the top eigenvector, a panel per cell"),
        Kind("density", "densities of the Hessian's eigenvalues", _density, ("job",), probes=True),
        Kind("valley", "the loss along its steepest line, through a pulse", _valley, ("job",)),
        Kind("bifurcation", "the last losses of a branch against η", _bifurcation, ("job",)),
        Kind(
            "budget",
            "what trying k cells can be expected to reach, a curve per method",
            _budget,
            ("metric", "methods", "by"),
        ),
        Kind("compare", "differences with intervals", _compare, most_runs=2),
    )
}
