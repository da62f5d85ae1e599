"""The report as one page that needs nothing else: its data, figures and scripts are inside."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
from collections.abc import Sequence
from importlib import resources
from itertools import groupby
from typing import Any

import tiltcli
from tiltcli.errors import UserError
from tiltcli.evaluation.claims import Verdict
from tiltcli.evaluation.comparison import Comparison
from tiltcli.evaluation.importance import DEFINITION
from tiltcli.evaluation.texts import legend, metric_tables
from tiltcli.reports.loaded_runs import Run, where_chosen
from tiltcli.reports.methods import methods_of
from tiltcli.reports.page_data import run_data
from tiltcli.reports.template import render
from tiltcli.reports.trainings import HEADER, MOST_ROWS, listed, single, summed_up, valley, watch
from tiltcli.reports.verdict_list import at_the_edge, by_loss, judge, notes, probed_traces

SCRIPTS = (
    *("base", "plots", "phase", "widths", "explorer"),
    *("trace", "valley", "parallel", "jobs", "main"),
)

PLOTLY = "plotly-cartesian-4.1.1.min.js.gz"
"""plotly.js's own bundle of two-dimensional charts, as its npm package
plotly.js-cartesian-dist-min has it (MIT): a third of the whole library that pip brings. The page
holds it compressed, and the browser unpacks it."""

TITLE = "Static against dynamical loss"
MARKS = {Verdict.HELD: "✓", Verdict.NOT_HELD: "✕", Verdict.INCONCLUSIVE: "?"}


def to_page(runs: Sequence[Run]) -> str:
    """Return the page; the same runs give the same bytes."""
    library = (resources.files("tiltcli.reports") / "assets" / PLOTLY).read_bytes()
    script = "(() => {\n'use strict';\n" + "\n".join(_asset(f"{n}.js") for n in SCRIPTS) + "})();"
    judged = judge(runs)
    claims = groupby(judged, key=lambda one: one.finding.claim)
    return render(
        "page.html",
        # Only these two scripts may run, and nothing may be fetched: whatever a run's texts hold.
        digests=f"{_digest(gzip.decompress(library))} {_digest(script.encode())}",
        title=TITLE,
        css=_asset("page.css"),
        runs=[_shown(run, runs) for run in runs],
        claims=[(claim, list(found)) for claim, found in claims],
        notes=notes(judged, runs),
        version=tiltcli.__version__,
        library=_base64(library),
        script=script,
        marks=MARKS,
        legend=legend,
        metric_tables=metric_tables,
        importance=DEFINITION,
        onset_header=HEADER,
        most_onsets=MOST_ROWS,
    )


def _asset(name: str) -> str:
    return (resources.files("tiltcli.reports") / "assets" / name).read_text(encoding="utf-8")


def _digest(script: bytes) -> str:
    return f"'sha256-{_base64(hashlib.sha256(script).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _shown(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    """What the page says and shows of a run."""
    watched = watch(run)
    data = run_data(run, len(runs), watched)
    one = single(run) if run.probed else None
    data["valley"], valley_said = (None, "") if one is None else valley(run, one)
    recalls, no_recalls = _recalls(run)
    edges = [at_the_edge(alike) for alike in by_loss(probed_traces(run)).values()]
    grid = ""
    with contextlib.suppress(OSError):
        grid = (run.folder / "sweep.toml").read_text(encoding="utf-8", errors="replace")
    return {
        "name": run.name,
        "about": run.about,
        "data": data,
        "methods": methods_of(run),
        "phase": run.cells > 1,
        "both": run.has_both,
        # Which cell stands for a width, and what that choice is worth.
        "origin": where_chosen(run, runs) if run.judged else None,
        "comparison": _comparison(run, data["judge"]) if run.has_both else "",
        "recalls": recalls,
        "no_recalls": no_recalls,
        "edges": [edge for edge in edges if edge],
        "followed": run.probed or watched,
        "instabilities": summed_up(run, watched),
        "onsets": listed(watched),
        "valley": valley_said,
        "made": [_facts(one, run) for one in run.invocations()],
        "grid": grid,
    }


def _recalls(run: Run) -> tuple[str, str]:
    """A picture of the learning curves of each class where they were kept, or why there is none."""
    try:
        figure = run.recall_figure()
    except UserError as error:
        return "", str(error)
    if figure is None:
        return "", ""
    from tiltcli.plots.style import as_png

    return _base64(as_png(figure)), ""


def _comparison(run: Run, judge: str) -> Comparison | str:
    try:
        return run.comparison(best=None if run.judged else judge)
    except UserError as error:
        return str(error)


def _facts(invocation: dict[str, Any], run: Run) -> dict[str, Any]:
    """How a run was made: command, versions, machine, seeds."""
    made = {name: value for name, value in invocation.items() if value}
    words, libraries = made.get("command"), made.get("libraries")
    known = libraries if isinstance(libraries, dict) else {}
    seeds = sorted(int(seed) for seed in run.tables.jobs["train.seed"].dropna().unique())
    machine = made.get("processor", "?"), f"{made.get('cores', '?')} cores", made.get("system", "?")
    return {
        "command": " ".join(map(str, words)) if isinstance(words, list) else "?",
        "started": made.get("time", "?"),
        "tiltcli": made.get("tiltcli", "?"),
        "commit": made.get("git_commit", "not from a source tree"),
        "machine": ", ".join(map(str, machine)),
        "Python": made.get("python", "?"),
        "libraries": ", ".join(f"{name} {version}" for name, version in known.items() if version),
        "engines": ", ".join(sorted(map(str, run.tables.jobs["engine"].dropna().unique()))),
        "seeds": ranges(seeds),
    }


def ranges(numbers: Sequence[int]) -> str:
    """Write rising whole numbers, neighbours drawn together: 0–4, 7, 100–119."""
    spans: list[list[int]] = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    shown = [str(a) if a == b else f"{a}–{b}" for a, b in spans]
    more = f", … ({len(numbers)} in all)" if len(shown) > 40 else ""
    return ", ".join(shown[:40]) + more
