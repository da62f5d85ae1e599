"""The report as one page that needs nothing else: its data, figures and scripts are inside."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

from tiltcli.errors import UserError
from tiltcli.evaluation.importance import DEFINITION
from tiltcli.reports import sections
from tiltcli.reports.instability_tables import HEADER, MOST_ROWS, Watched, listed, summed_up, watch
from tiltcli.reports.loaded_runs import Run, where_chosen
from tiltcli.reports.methods import methods_of
from tiltcli.reports.one_training import single, valley
from tiltcli.reports.pack import json_text
from tiltcli.reports.page_data import run_data
from tiltcli.reports.sections import signed, text
from tiltcli.reports.verdict_list import at_the_edge, by_loss, judge, probed_traces

SCRIPTS = (
    *("base", "plots", "phase", "widths", "explorer"),
    *("trace", "valley", "parallel", "jobs", "main"),
)

PLOTLY = "plotly-cartesian-4.1.1.min.js.gz"
"""plotly.js's own bundle of two-dimensional charts, as its npm package
plotly.js-cartesian-dist-min has it (MIT): a third of the whole library that pip brings. The page
holds it compressed, and the browser unpacks it."""

TITLE = "Static against dynamical loss"


def to_page(runs: Sequence[Run]) -> str:
    """Return the page; the same runs give the same bytes."""
    library = (resources.files("tiltcli.reports") / "assets" / PLOTLY).read_bytes()
    script = "(() => {\n'use strict';\n" + "\n".join(_asset(f"{n}.js") for n in SCRIPTS) + "})();"
    links = [("verdicts", "Verdicts"), *((f"run-{i}", run.name) for i, run in enumerate(runs))]
    links += [("made", "How this was made"), ("cite", "How to cite")]
    return Template(_asset("page.html")).substitute(
        # Only these two scripts may run, and nothing may be fetched: whatever a run's texts hold.
        digests=f"{_digest(gzip.decompress(library))} {_digest(script.encode())}",
        title=TITLE,
        names=text(", ".join(run.name for run in runs)),
        css=_asset("page.css"),
        contents="".join(f'<li><a href="#{key}">{text(name)}</a></li>' for key, name in links),
        methods=_methods(runs),
        runs="\n".join(_section(run, f"run-{i}", runs) for i, run in enumerate(runs)),
        verdicts=sections.verdicts(judge(runs), runs),
        made="".join(map(sections.provenance, runs)),
        citations=sections.citations(),
        library=_base64(library),
        script=script,
    )


def _methods(runs: Sequence[Run]) -> str:
    """Methods beside each other, of the runs whose grids say what their methods are."""
    lines = []
    for run in runs:
        sentences, tables = methods_of(run)
        if not tables:
            continue
        lines.append(f"<h2>Methods of {text(run.name)}, each tuned</h2>")
        lines += [f"<p>{signed(one)}</p>" for one in sentences[:-1]]
        for number, one in enumerate(tables):
            shown = sections.table(one.title, one.header, one.rows)
            if number:
                shown = f"<details><summary>{text(one.title)}</summary>{shown}</details>"
            else:
                shown = f"<h3>{text(one.title)}</h3>{shown}"
                shown += f'<p class="note">{text(sentences[-1])}</p>'
            lines.append(shown)
    return f'<section id="methods">{"".join(lines)}</section>' if lines else ""


def _asset(name: str) -> str:
    return (resources.files("tiltcli.reports") / "assets" / name).read_text(encoding="utf-8")


def _digest(script: bytes) -> str:
    return f"'sha256-{_base64(hashlib.sha256(script).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _section(run: Run, key: str, runs: Sequence[Run]) -> str:
    watched = watch(run)
    data = run_data(run, len(runs), watched)
    lines = [
        f'<section class="run" id="{key}" data-name="{text(run.name)}">',
        f"<h2>{text(run.name)}</h2><p>{text(run.about)}</p>",
        '<div data-part="controls" class="controls"></div>',
    ]
    if run.cells > 1:
        lines.append(
            "<h3>Phase diagram</h3><p>Each width has a colour scale of its own. The orange line on "
            "the bar is the static loss, with its 95% interval; the orange box is the best cell, "
            f"one that lost no job before any that did.{_lost(data)} Click a cell to see its "
            "learning curves below; point at it for its interval.</p>"
            '<div data-part="phase" class="maps"></div>'
        )
    if run.has_both:
        lines.append(f"<h3>By width</h3>{_origin(run, runs, data)}")
        lines.append('<div data-part="widths"></div>')
        lines.append(_comparison(run, data["judge"]))
    if data["parallel"]:
        lines.append(
            f'<h3>All axes at once</h3><p>{text(DEFINITION)}</p><div data-part="parallel"></div>'
        )
    if len(data["cells"]["static"]) > 1 or data["trace"] is None:
        lines.append('<h3>Learning curves of a cell</h3><div data-part="explorer"></div>')
    lines.append(_recalls(run))
    if data["trace"]:
        lines.append(
            f"<h3>One training, step by step</h3><p>{text(data['trace']['about'])}</p>"
            '<div data-part="trace"></div>'
        )
    if run.probed:
        for alike in by_loss(probed_traces(run)).values():
            if edge := at_the_edge(alike):
                shown = sections.table(edge.title, edge.header, edge.rows)
                lines.append(f"<h3>{edge.title}</h3>{shown}")
    if run.probed or watched:
        lines.append(_instabilities(run, watched))
        one = single(run) if run.probed else None
        data["valley"], said = (None, "") if one is None else valley(run, one)
        lines.append("<h3>The valley through a pulse</h3>" if data["valley"] else "")
        lines.append(f'<p>{text(said)}</p><div data-part="valley"></div>')
    lines.append('<h3>Jobs</h3><div data-part="jobs"></div>')
    lines.append(f'<script type="application/json">{json_text(data)}</script></section>')
    return "\n".join(lines)


def _recalls(run: Run) -> str:
    """A picture of the learning curves of each class, where they were kept."""
    try:
        figure = run.recall_figure()
    except UserError as error:
        return f'<p class="note">No learning curves of each class here: {text(error)}.</p>'
    if figure is None:
        return ""
    from tiltcli.plots.style import as_png

    picture = _base64(as_png(figure))
    said = f"Recall of each class of {text(run.name)} by epoch, a panel for each cell"
    shown = f'<img src="data:image/png;base64,{picture}" alt="{said}" style="max-width: 100%">'
    return f"<h3>Learning curves of each class</h3><figure>{shown}</figure>"


def _lost(data: dict[str, Any]) -> str:
    """Say how cells show that jobs of theirs are missing from their mean; empty if none are."""
    cells = data["cells"]
    if not any(cells["diverged"]) and not any(cells["failed"]):
        return ""
    return (
        " Grey: every job of the cell diverged or failed. A cell marked * (or with a count, where "
        "it has room) lost some of its jobs: one that diverged counts with the accuracy that it "
        "had, chance at most; one that failed is in no mean."
    )


def _origin(run: Run, runs: Sequence[Run], data: dict[str, Any]) -> str:
    """Say which dynamical cell stands for a width, and what that choice is worth."""
    if run.judged:
        chosen, said = where_chosen(run, runs)
        kind = ' class="warning"' if chosen is False else ""
        return f"<p{kind}>{sections.sentence(said)}</p>"
    judge = data["judge"].replace("val_", "validation ").replace("train_", "training ")
    return (
        f"<p>Dynamical is the cell with the best mean {text(judge)} of each width (and of each "
        "setting, where others vary), on the same seeds: flattered by the choice, which fresh "
        "seeds must confirm "
        f"(<code>tiltcli confirm {text(run.name)}</code>).</p>"
    )


def _instabilities(run: Run, watched: Sequence[Watched]) -> str:
    """Say what was found, list it, and leave room for the picture of the richest."""
    rows = listed(watched)
    lines = [f"<h3>Instabilities</h3><p>{text(summed_up(run, watched))}</p>"]
    if rows:
        lines.append('<div data-part="zooms"></div>')
        table = sections.table("Instabilities", HEADER, rows[:MOST_ROWS])
        more = (
            f'<p class="note">The first {MOST_ROWS} of {len(rows)}: <code>tiltcli '
            f"instabilities {text(run.name)}</code> has them all.</p>"
        ) * (len(rows) > MOST_ROWS)
        lines.append(
            "<details><summary>When each begins and ends, how curved the loss is there, and what "
            f'periods are seen</summary>{more}{table}<p class="note">Steps: onset; t, since its '
            "pulse began; crossing, at which λ_max climbs through its bound (2/η in plain gradient "
            "descent), of all the nearest; end. Γ: weight of the class that is emphasised."
            "</p></details>"
        )
    return "".join(lines)


def _comparison(run: Run, judge: str) -> str:
    try:
        found = run.comparison(best=None if run.judged else judge)
    except UserError as error:
        return f'<p class="warning">{text(error)}</p>'
    return (
        "<details><summary>Static and dynamical, pair by pair: tables with p-values</summary>"
        f"{sections.comparison_tables(found)}</details>"
    )
