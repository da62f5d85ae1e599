"""`tiltcli instabilities`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tiltcli.cli import options as opt
from tiltcli.cli.options import app, flag, option, say
from tiltcli.cli.rendering import Result, write
from tiltcli.errors import Outcome, UserError, listing

if TYPE_CHECKING:
    from tiltcli.analysis.instability import Thresholds
    from tiltcli.analysis.traces import Trace
    from tiltcli.evaluation.texts import Table

Row = dict[str, Any]


@app.command()
def instabilities(
    run: opt.Run,
    job: opt.OneJob = None,
    where: opt.Where = None,
    swing: float = option("--swing", "Least swing of the loss that counts.", default=2e-5),
    relative: bool = flag("--relative", "Count --swing in shares of the loss."),
    output_format: opt.OutputFormat = opt.Format.TABLE,
    results: opt.Results = opt.RESULTS,
) -> None:
    """Find the instabilities of trainings: when they begin and end, and what cascade they run.

    Example: [bold]tiltcli instabilities spiral-fig4[/bold]

    An instability begins where the loss oscillates about its smooth course, with whatever period.
    Needs a run with train.log_every = 1; λ_max at the onset is shown where it was probed, over the
    optimiser's bound (2/η in plain gradient descent). Steps of the table: onset, t since its pulse
    began, crossing (λ_max climbs through the bound), end.
    """
    if not 0 < swing < math.inf:
        raise UserError(f"--swing: got {swing}; allowed: a number > 0")
    from tiltcli.analysis.instability import Thresholds
    from tiltcli.evaluation.selection import narrowed
    from tiltcli.store.read import find_run, read

    name, _, selection = run.partition("@")
    folder = find_run(name, results)
    tables = narrowed(read(folder), [selection, *(where or [])], job)
    from tiltcli.analysis.traces import traces_of

    done = tables.jobs[tables.jobs["outcome"] != Outcome.FAILED]
    if done.empty:
        raise UserError(f"{tables.name}: all of these jobs failed; tiltcli runs shows why")
    # Of jobs without single steps one is enough to say why.
    dense = done[done["train.log_every"] == 1]
    looked_at = list((dense if len(dense) else done.iloc[:1])["job"])
    traces = traces_of(folder, tables, looked_at)
    traces = _with_single_steps(traces, len(done), tables.name)
    rules = Thresholds(swing, relative)
    rows = [row for trace in traces for row in _rows(trace, rules)]
    facts = {"run": tables.name, "jobs": len(traces), "instabilities": rows}
    shown = [_table(rows, several=len(traces) > 1)] if rows else []
    write(Result("instabilities", facts, list(HEADER), rows, tables=shown), output_format)
    _notes(traces, rows)


HEADER = {
    "job": "job",
    "pulse": "pulse",
    "class": "class",
    "onset": "onset",
    "t": "t",
    "gamma": "Γ",
    "crossing": "crossing",
    "hessian_max": "λ_max",
    "hessian_share": "λ_max/bound",
    "end": "end",
    "longest_period": "longest",
    "cascade": "cascade",
}
"""Keys of a row, and what the table calls them."""


def _with_single_steps(traces: list[Trace], jobs: int, name: str) -> list[Trace]:
    kept = [trace for trace in traces if trace.why_not_single_steps() is None]
    if not kept:
        raise UserError(
            f"{name}: the losses of single steps are needed; {traces[0].why_not_single_steps()}"
        )
    if len(kept) < jobs:
        say(f"note: {jobs - len(kept)} jobs are left out: they kept no single steps")
    return kept


def _rows(trace: Trace, rules: Thresholds) -> list[Row]:
    rows = []
    for one in trace.instabilities(rules):
        row = {"job": trace.job.id, "class": one.label, "hessian_share": one.share}
        row |= {"longest_period": one.cascade.longest, "cascade": str(one.cascade)}
        rows.append({key: row[key] if key in row else getattr(one, key) for key in HEADER})
    return rows


def _table(rows: list[Row], *, several: bool) -> Table:
    from tiltcli.evaluation.texts import Table

    shown = {key: title for key, title in HEADER.items() if several or key != "job"}
    texts = tuple(tuple(_text(key, row[key]) for key in shown) for row in rows)
    return Table("", tuple(shown.values()), texts, ("job", "cascade"))


def _text(key: str, value: Any) -> str:
    if value is None or value != value:
        # An instability without an end lasts to the end of the training.
        return "(lasts)" if key == "end" else "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _notes(traces: list[Trace], rows: list[Row]) -> None:
    if not rows:
        say("no instability was found")
    if all(trace.curvature is None for trace in traces):
        reason = (
            "was not probed: a [probe] table in the grid file has it measured, or tiltcli probe"
            if traces[0].bound is not None
            else "has a bound in theory only with full batches, or minibatches of plain descent"
        )
        say(f"note: the columns of λ_max are empty: it {reason}")
    for trace in traces:
        if trace.schedule is None:
            continue
        last = int(trace.metrics["step"].max())
        settled = trace.schedule.settled_from
        active = last if settled is None else min(settled, last)
        pulses = -(-active // trace.schedule.pulse)
        own = {row["pulse"] for row in rows if row["job"] == trace.job.id}
        without = [pulse for pulse in range(1, pulses + 1) if pulse not in own]
        if without:
            which = f" of {trace.job.id}" if len(traces) > 1 else ""
            say(f"{len(without)} of {pulses} pulses{which} without an onset: {listing(without)}")
