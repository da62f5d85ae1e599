"""The report as Markdown, its figures as pictures in a folder beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tiltcli.errors import RunError, UserError, harmless
from tiltcli.evaluation.texts import interval, markdown, number, p_value, to_markdown
from tiltcli.networks.initial import has_one_hidden_layer
from tiltcli.reports.curvature_verdicts import at_the_edge, by_loss, probed_traces
from tiltcli.reports.loaded_runs import Run
from tiltcli.reports.methods import methods_of
from tiltcli.reports.origin import about, invocations, where_chosen
from tiltcli.reports.parallel_panel import in_words
from tiltcli.reports.recall_figure import recall_figure
from tiltcli.reports.verdict_list import Judged, judge, notes


def to_text(runs: Sequence[Run], figures: Path, base: Path) -> str:
    """Write the figures, return the text."""
    lines, told = ["# Static against dynamical loss", ""], set()
    for run in runs:
        sentences, tables = methods_of(run)
        if tables:
            told.add(run.name)
            lines += [f"## Methods of {_safe(run.name)}, each tuned", ""]
            lines += [line for one in sentences[:-1] for line in (_safe(one), "")]
            lines += [markdown((), tables[:1], sentences[-1:]), ""]
            lines += ["<details><summary>Every contest</summary>", ""]
            lines += [markdown((), tables[1:], ()), "", "</details>", ""]
    lines += ["## Verdicts", "", *_verdicts(judge(runs), runs)]
    for run in runs:
        lines += ["", f"## {_safe(run.name)}", "", _safe(about(run)), ""]
        if run.name in told:  # chosen cells, one each: a phase diagram would show nothing
            lines.append("Its cells are those that stand at the top.")
        else:
            lines += _section(run, runs, figures, base)
        lines += _recalls(run, figures, base)
    lines += ["", "## How this was made", "", *_provenance(runs), ""]
    return "\n".join(lines)


def _verdicts(judged: Sequence[Judged], runs: Sequence[Run]) -> list[str]:
    lines = []
    if judged:
        lines = [
            "| claim | run | verdict | measured | difference or share | 95% interval | n | "
            "null or control | p | p alone |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(_verdict_row, judged),
            "",
        ]
    said = notes(judged, runs)
    return [*lines, *(line for note in said for line in (_safe(note), ""))][:-1]


def _verdict_row(one: Judged) -> str:
    finding, estimate = one.finding, one.finding.estimate
    signed = not finding.is_share
    return (
        f"| {finding.claim} | {_safe(one.run)} | **{one.verdict}** | {finding.measured} | "
        f"{number(estimate.mean, sign=signed)} | "
        f"{interval(estimate.low, estimate.high, sign=signed)} | "
        f"{estimate.n} {finding.sample} | {finding.beside or '–'} | "
        f"{p_value(one.p)} | {p_value(finding.p)} |"
    )


def _section(run: Run, runs: Sequence[Run], figures: Path, base: Path) -> list[str]:
    try:
        if run.has_both and run.cells > 1:
            lines = _phase_section(run, figures, base)
        elif run.has_both:
            lines = _judged_section(run, runs, figures, base)
        else:
            lines = _trace_section(run, figures, base)
        return [*lines, *_curvature_section(run, figures, base)]
    except RunError:
        raise  # of a figure that could not be written
    except UserError as error:
        return [_safe(str(error))]


def _phase_section(run: Run, figures: Path, base: Path) -> list[str]:
    from tiltcli.plots.phase import phase
    from tiltcli.plots.style import save

    metric = "val_accuracy" if "val_accuracy" in run.metrics else "train_accuracy"
    path = figures / f"{run.name}-phase.png"
    try:
        figure = phase(run.tables.jobs, metric, run.name)
    except UserError as error:  # more panels than can be told apart: the tables say it all
        said = _safe(f"{error}, of `tiltcli plot phase {run.name}`")
        lines = [f"No phase diagram here: {said}.", ""]
    else:
        save(figure, path)
        lines = [_image(f"Phase diagram of {run.name}", path, base), ""]
    lines += [line for one in [in_words(run.tables.jobs, metric)] if one for line in (one, "")]
    lines.append(f"The cell with the best mean {metric} of each width, on the same seeds:")
    return [*lines, "", to_markdown(run.comparison(best=metric))]


def _judged_section(run: Run, runs: Sequence[Run], figures: Path, base: Path) -> list[str]:
    from tiltcli.plots.forest import forest
    from tiltcli.plots.style import save

    comparison = run.comparison()
    path = figures / f"{run.name}-differences.png"
    save(forest(comparison), path)
    lines = [_image(f"Differences of {run.name}", path, base), ""]
    chosen, sentence = where_chosen(run, runs)
    sentence = _safe(sentence) if chosen is not False else f"**{_safe(sentence)}**"
    return [*lines, sentence, "", to_markdown(comparison)]


def _trace_section(run: Run, figures: Path, base: Path) -> list[str]:
    from tiltcli.analysis.traces import pick, trace_of
    from tiltcli.plots.gamma import gamma_figure
    from tiltcli.plots.style import save
    from tiltcli.plots.trace import trace

    one = trace_of(run.tables, pick(run.folder, run.tables, dynamical=False))
    lines = []
    if one.schedule is not None:
        path = figures / f"{run.name}-gamma.png"
        save(gamma_figure(one.schedule, run.name, labels=one.labels), path)
        lines += [_image(f"Class weights of {run.name}", path, base), ""]
    path = figures / f"{run.name}-trace.png"
    save(trace(one), path)
    return [*lines, _image(f"Trace of {run.name}", path, base)]


def _curvature_section(run: Run, figures: Path, base: Path) -> list[str]:
    """λ_max over the seeds of a probed run, and the valleys of one of its trainings."""
    traces = probed_traces(run)
    if not traces:
        return []
    from tiltcli.analysis.valleys import valleys_of
    from tiltcli.plots.curvature import curvature
    from tiltcli.plots.style import save
    from tiltcli.plots.valley import valley

    lines: list[str] = []
    for loss, alike in by_loss(traces).items():
        path = figures / f"{run.name}-curvature{'-mse' if loss == 'mse' and lines else ''}.png"
        save(curvature(alike, run.name), path)
        lines += ["", _image(f"Curvature of {run.name}", path, base)]
        table = at_the_edge(alike)
        lines += ["", markdown((), [table], ())] if table else []
    for one in traces:
        if one.schedule and one.why_not_single_steps() is None and has_one_hidden_layer(one.job):
            engines = run.tables.jobs.set_index("job")["engine"]
            path = figures / f"{run.name}-valley.png"
            save(valley(one, valleys_of(one, str(engines[one.job.id]))), path)
            return [*lines, "", _image(f"Valleys of {run.name}", path, base)]
    return lines


def _recalls(run: Run, figures: Path, base: Path) -> list[str]:
    """The learning curves of each class, where they were kept."""
    from tiltcli.plots.style import save

    try:
        figure = recall_figure(run)
    except UserError as error:
        return ["", f"No learning curves of each class here: {_safe(str(error))}."]
    if figure is None:
        return []
    path = figures / f"{run.name}-recall.png"
    save(figure, path)
    return ["", _image(f"Recall of each class of {run.name}", path, base)]


def _image(title: str, path: Path, base: Path) -> str:
    where = Path(os.path.relpath(path, base)).as_posix()
    if re.search(r"[\s()<>]", where):
        where = f"<{re.sub('[<>]', lambda found: f'%{ord(found[0]):02X}', where)}>"
    return f"![{_safe(title)}]({where})"


def _safe(text: str) -> str:
    """Text that Markdown shows as it is: a folder may be named anything."""
    return re.sub(r"[<>|\[\]*]", lambda found: f"&#{ord(found[0])};", harmless(text))


def _provenance(runs: Sequence[Run]) -> list[str]:
    lines = []
    for run in runs:
        try:
            last = invocations(run)[-1]
            libraries = ", ".join(
                f"{name} {last['libraries'][name]}"
                for name in ("numpy", "numba", "torch")
                if last["libraries"].get(name)
            )
            lines.append(
                f"- {_safe(run.name)}: tiltcli {last['tiltcli']}, {last['processor']}, "
                f"{last['cores']} cores, Python {last['python']}, {libraries}; {last['time'][:10]}"
            )
        except (KeyError, IndexError, TypeError, AttributeError):
            lines.append(f"- {_safe(run.name)}: its provenance cannot be read")
    return lines
