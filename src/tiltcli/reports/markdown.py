"""The report as Markdown, its figures as pictures in a folder beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.errors import RunError, UserError
from tiltcli.evaluation.cells import choosing_metric
from tiltcli.evaluation.importance import in_words
from tiltcli.evaluation.texts import markdown, to_markdown
from tiltcli.networks.initial import has_one_hidden_layer
from tiltcli.reports.loaded_runs import Run, where_chosen
from tiltcli.reports.methods import methods_of
from tiltcli.reports.template import plain, render
from tiltcli.reports.verdict_list import at_the_edge, by_loss, judge, notes, probed_traces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Image = Callable[["Figure", str, str], str]
"""Writes a figure of a run under a name, and returns the line that shows it under a title."""


def to_text(runs: Sequence[Run], figures: Path, base: Path) -> str:
    """Write the figures, return the text."""
    judged = judge(runs)
    return render(
        "report.md",
        runs=[_shown(run, runs, partial(_image, run, figures, base)) for run in runs],
        judged=judged,
        notes=notes(judged, runs),
        markdown=markdown,
    )


def _shown(run: Run, runs: Sequence[Run], image: Image) -> dict[str, Any]:
    """What the text says and shows of a run."""
    methods = methods_of(run)
    if methods[1]:  # chosen cells, one each: a phase diagram would show nothing
        lines = ["Its cells are those that stand at the top."]
    else:
        lines = _section(run, runs, image)
    lines += _recalls(run, image)
    made = _provenance(run)
    return {"name": run.name, "about": run.about, "methods": methods, "lines": lines, "made": made}


def _section(run: Run, runs: Sequence[Run], image: Image) -> list[str]:
    try:
        if run.has_both and run.cells > 1:
            lines = _phase_section(run, image)
        elif run.has_both:
            lines = _judged_section(run, runs, image)
        else:
            lines = _trace_section(run, image)
        return [*lines, *_curvature_section(run, image)]
    except RunError:
        raise  # of a figure that could not be written
    except UserError as error:
        return [plain(str(error))]


def _phase_section(run: Run, image: Image) -> list[str]:
    from tiltcli.plots.phase import phase

    metric = choosing_metric(run.tables.jobs)
    try:
        figure = phase(run.tables.jobs, metric, run.name)
    except UserError as error:  # more panels than can be told apart: the tables say it all
        said = plain(f"{error}, of `tiltcli plot phase {run.name}`")
        lines = [f"No phase diagram here: {said}.", ""]
    else:
        lines = [image(figure, "phase", "Phase diagram"), ""]
    if one := in_words(run.tables.jobs, metric):
        lines += [one, ""]
    lines.append(f"The cell with the best mean {metric} of each width, on the same seeds:")
    return [*lines, "", to_markdown(run.comparison(best=metric))]


def _judged_section(run: Run, runs: Sequence[Run], image: Image) -> list[str]:
    from tiltcli.plots.forest import forest

    comparison = run.comparison()
    chosen, sentence = where_chosen(run, runs)
    sentence = plain(sentence) if chosen is not False else f"**{plain(sentence)}**"
    shown = image(forest(comparison), "differences", "Differences")
    return [shown, "", sentence, "", to_markdown(comparison)]


def _trace_section(run: Run, image: Image) -> list[str]:
    from tiltcli.analysis.traces import pick
    from tiltcli.plots.gamma import gamma_figure
    from tiltcli.plots.trace import trace

    one = pick(run.folder, run.tables)
    lines = []
    if one.schedule is not None:
        figure = gamma_figure(one.schedule, run.name, labels=one.labels)
        lines += [image(figure, "gamma", "Class weights"), ""]
    return [*lines, image(trace(one), "trace", "Trace")]


def _curvature_section(run: Run, image: Image) -> list[str]:
    """λ_max over the seeds of a probed run, and the valleys of one of its trainings."""
    traces = probed_traces(run)
    if not traces:
        return []
    from tiltcli.analysis.valleys import valleys_of
    from tiltcli.plots.curvature import curvature
    from tiltcli.plots.valley import valley

    lines: list[str] = []
    for loss, alike in by_loss(traces).items():
        name = "curvature-mse" if loss == "mse" and lines else "curvature"
        lines += ["", image(curvature(alike, run.name), name, "Curvature")]
        table = at_the_edge(alike)
        lines += ["", markdown((), [table], ())] if table else []
    for one in traces:
        if one.schedule and one.why_not_single_steps() is None and has_one_hidden_layer(one.job):
            engines = run.tables.jobs.set_index("job")["engine"]
            figure = valley(one, valleys_of(one, str(engines[one.job.id])))
            return [*lines, "", image(figure, "valley", "Valleys")]
    return lines


def _recalls(run: Run, image: Image) -> list[str]:
    """The learning curves of each class, where they were kept."""
    try:
        figure = run.recall_figure()
    except UserError as error:
        return ["", f"No learning curves of each class here: {plain(str(error))}."]
    return [] if figure is None else ["", image(figure, "recall", "Recall of each class")]


def _image(run: Run, figures: Path, base: Path, figure: Figure, name: str, title: str) -> str:
    from tiltcli.plots.style import save

    path = figures / f"{run.name}-{name}.png"
    save(figure, path)
    where = Path(os.path.relpath(path, base)).as_posix()
    if re.search(r"[\s()<>]", where):
        where = f"<{re.sub('[<>]', lambda found: f'%{ord(found[0]):02X}', where)}>"
    return f"![{plain(f'{title} of {run.name}')}]({where})"


def _provenance(run: Run) -> str:
    """How a run was made, in a line; empty where it cannot be read."""
    try:
        last = run.invocations()[-1]
        libraries = ", ".join(
            f"{name} {last['libraries'][name]}"
            for name in ("numpy", "numba", "torch")
            if last["libraries"].get(name)
        )
        return (
            f"tiltcli {last['tiltcli']}, {last['processor']}, {last['cores']} cores, "
            f"Python {last['python']}, {libraries}; {last['time'][:10]}"
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""
