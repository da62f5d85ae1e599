"""Pieces of the page that are plain HTML: verdicts, comparisons, provenance, citations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any

import tiltcli
from tiltcli.evaluation.claims import Finding, Verdict
from tiltcli.evaluation.comparison import Comparison
from tiltcli.evaluation.texts import interval, legend, metric_tables, number, p_value
from tiltcli.reports.loaded_runs import Run
from tiltcli.reports.verdict_list import Judged, notes

MARKS = {Verdict.HELD: "✓", Verdict.NOT_HELD: "✕", Verdict.INCONCLUSIVE: "?"}


def text(value: object) -> str:
    """Text as HTML, with the sign that numbers are printed with."""
    return escape(str(value))


def sentence(written: str) -> str:
    """Prose as HTML; what stands between backquotes is to be typed."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", text(written))


def signed(written: str) -> str:
    """Numbers as HTML, with a minus of its own in place of the hyphen."""
    return re.sub(r"-(?=[\d.])", "−", text(written))


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a box that scrolls by itself; the first column names its rows."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>'
        f"{''.join(f'<td>{signed(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f'<caption class="hidden">{text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def verdicts(judged: Sequence[Judged], runs: Sequence[Run]) -> str:
    """Return the findings claim by claim, a card each, and what must be said with them."""
    found = "".join(
        f'<h3>{text(claim)}</h3><ul class="verdicts">{"".join(map(_card, group))}</ul>'
        for claim, group in groupby(judged, key=lambda one: one.finding.claim)
    )
    said = "".join(f'<p class="note">{sentence(note)}</p>' for note in notes(judged, runs))
    return found + said


def _card(one: Judged) -> str:
    finding, estimate = one.finding, one.finding.estimate
    kind = one.verdict.value.replace(" ", "-")
    sign = not finding.is_share
    tested = ""
    if not math.isnan(one.p):
        tested = f"; p = {text(p_value(one.p))} (alone {text(p_value(finding.p))})"
    beside = f"<p>Null or control: {signed(finding.beside)}</p>" if finding.beside else ""
    return (
        f'<li class="verdict {kind}"><span class="badge">'
        f"{MARKS[one.verdict]} {text(one.verdict)}</span>"
        f"<p>{text(one.run)}: {signed(finding.measured)}</p>"
        f'<p class="number">{signed(number(estimate.mean, sign=sign))}</p>'
        f"<p>95% interval {signed(interval(estimate.low, estimate.high, sign=sign))}; "
        f"n = {estimate.n} {text(finding.sample)}{tested}</p>"
        f"{_bar(finding)}{beside}</li>"
    ).replace("p = &lt;", "p &lt;")


def _bar(finding: Finding) -> str:
    """Return a picture of the interval beside what it is held against; empty without one."""
    estimate = finding.estimate
    if math.isnan(estimate.low):
        return ""
    low, high = min(estimate.low, finding.against), max(estimate.high, finding.against)
    reach = high - low or 1.0
    low, high = low - 0.06 * reach, high + 0.06 * reach

    def at(value: float) -> str:
        return f"{4 + 292 * (value - low) / (high - low):.1f}"

    zero = float(at(finding.against))
    side = "start" if zero < 40 else "end" if zero > 260 else "middle"
    # The numbers stand beside it: a screen reader need not read them twice.
    return (
        '<svg viewBox="0 0 300 46" aria-hidden="true" focusable="false">'
        '<line x1="4" x2="296" y1="18" y2="18" stroke="currentColor" opacity=".25"/>'
        f'<line x1="{zero}" x2="{zero}" y1="4" y2="32" stroke="currentColor"/>'
        f'<text x="{zero}" y="44" font-size="11" fill="currentColor" text-anchor="{side}">'
        f"{'one half' if finding.is_share else 'no difference'}</text>"
        f'<line x1="{at(estimate.low)}" x2="{at(estimate.high)}" y1="18" y2="18" '
        'stroke="var(--tone)" stroke-width="6" stroke-linecap="round"/>'
        f'<circle cx="{at(estimate.mean)}" cy="18" r="6" fill="var(--ink)"/></svg>'
    )


def comparison_tables(comparison: Comparison) -> str:
    """Return a table per metric, and the notes."""
    lines = [f"<p>Differences are {text(comparison.name_b)} − {text(comparison.name_a)}.</p>"]
    for one in metric_tables(comparison):
        named = one.title.replace("_", " ")
        lines.append(f"<h4>{text(named)}</h4>")
        lines.append(table(f"Comparison by {named}", one.header, one.rows))
    notes = (legend(comparison), *comparison.notes)
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
    return "".join([*lines, f'<ul class="note">{items}</ul>'])


def provenance(run: Run) -> str:
    """Return how a run was made: command, versions, machine, seeds, grid."""
    found = run.invocations()
    lines = [f"<h3>{text(run.name)}</h3>"]
    if not found:
        lines.append('<p class="warning">Its provenance cannot be read.</p>')
    else:
        last = found[-1]
        lines.append(_facts(last, run))
        if len(found) > 1:
            items = "".join(
                f"<li>{text(one.get('time', '?'))}: <code>{text(_command(one))}</code></li>"
                for one in found
            )
            lines.append(f"<details><summary>All {len(found)} times it was started</summary>")
            lines.append(f"<ol>{items}</ol></details>")
    try:
        grid = (run.folder / "sweep.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        grid = ""
    lines.append(f"<details><summary>Its grid file</summary><pre>{text(grid)}</pre></details>")
    return "".join(lines)


def _command(invocation: dict[str, Any]) -> str:
    words = invocation.get("command")
    return " ".join(map(str, words)) if isinstance(words, list) else "?"


def _facts(last: dict[str, Any], run: Run) -> str:
    libraries = last.get("libraries")
    known = libraries if isinstance(libraries, dict) else {}
    seeds = sorted(int(seed) for seed in run.tables.jobs["train.seed"].dropna().unique())
    facts = {
        "command": f"<code>{text(_command(last))}</code>",
        "started": text(last.get("time", "?")),
        "tiltcli": text(last.get("tiltcli", "?")),
        "commit": f"<code>{text(last.get('git_commit') or 'not from a source tree')}</code>",
        "machine": text(
            f"{last.get('processor', '?')}, {last.get('cores', '?')} cores, "
            f"{last.get('system', '?')}"
        ),
        "Python": text(last.get("python", "?")),
        "libraries": text(", ".join(f"{k} {v}" for k, v in known.items() if v)),
        "engines": text(", ".join(sorted(map(str, run.tables.jobs["engine"].dropna().unique())))),
        "seeds": text(ranges(seeds)),
    }
    return "<dl>" + "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts.items()) + "</dl>"


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


PAPER = """@inproceedings{ruizgarcia2021tilting,
  title     = {Tilting the playing field: Dynamical loss functions for machine learning},
  author    = {Ruiz-Garcia, Miguel and Zhang, Ge and Schoenholz, Samuel S. and Liu, Andrea J.},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  series    = {Proceedings of Machine Learning Research},
  volume    = {139},
  year      = {2021},
  eprint    = {2102.03793},
  archivePrefix = {arXiv}
}"""


def citations() -> str:
    """Return how to cite the paper and the tool."""
    tool = (
        "@software{tiltcli,\n"
        "  title   = {tiltcli: sweeps with dynamical loss functions},\n"
        "  author  = {{The tiltcli developers}},\n"
        f"  version = {{{tiltcli.__version__}}}\n}}"
    )
    return (
        "<p>The method is M. Ruiz-Garcia, G. Zhang, S. S. Schoenholz and A. J. Liu, "
        "<cite>Tilting the playing field: Dynamical loss functions for machine learning</cite>, "
        'ICML 2021, <a href="https://arxiv.org/abs/2102.03793">arXiv:2102.03793</a>. '
        "Cite it, and the tool with its version:</p>"
        f"<pre>{escape(PAPER)}</pre><pre>{escape(tool)}</pre>"
    )
