"""`tiltcli runs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tiltcli.cli.app import app
from tiltcli.cli.options import RESULTS, Format, OutputFormat, Results, RunOrAll, option
from tiltcli.cli.rendering import Result, write
from tiltcli.errors import RUN_COUNTS, UserError, listing

if TYPE_CHECKING:
    from tiltcli.evaluation.texts import Table

COUNTS = (*RUN_COUNTS[:4], "completed", *RUN_COUNTS[4:])
"""Columns of the CSV."""
METRICS = [f"{part}_{what}" for part in ("train", "val", "test") for what in ("accuracy", "loss")]


@app.command()
def runs(
    run: RunOrAll = None,
    sort: Annotated[
        str,
        option(
            "--sort",
            f"Order of the list, names rising, all else falling: {', '.join(RUN_COUNTS)}.",
            "COLUMN",
        ),
    ] = "name",
    results: Results = RESULTS,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List the runs, or show one run's axes, progress and failures.

    Example: [bold]tiltcli runs spiral-phase[/bold]
    """
    from tiltcli.store.read import find_run
    from tiltcli.store.run_facts import all_facts, facts_of

    if run is not None:
        folder = find_run(run, results)
        fact = facts_of(folder, whole=True)
        if output_format is Format.JSON:
            fact["cells"] = _cells(folder)
        write(Result("runs", fact, COUNTS, [fact], _lines(fact)), output_format)
        if output_format is Format.TABLE:
            _show_learning(folder)
        return
    whole = output_format is Format.JSON
    facts = all_facts(results, sort, whole=whole)
    if not facts and not whole:
        raise UserError(f"no runs under {results}/; tiltcli sweep makes one")
    write(Result("runs", {"runs": facts}, COUNTS, facts, tables=[_table(facts)]), output_format)


def _table(facts: list[dict[str, Any]]) -> Table:
    from tiltcli.evaluation.texts import Table

    keys = ("name", "jobs", "done", "diverged", "failed")
    rows = tuple(
        (*(str(one[key]) for key in keys), f"{one['seconds']:.0f}", one["changed"][:16])
        for one in facts
    )
    return Table("", ("run", *keys[1:], "core-s", "changed (UTC)"), rows, ("run",))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _lines(fact: dict[str, Any]) -> list[str]:
    lines = [
        f"{fact['name']} ({fact['folder']})",
        f"  {fact['done']} of {fact['jobs']} jobs done: {fact['completed']} completed, "
        f"{fact['diverged']} diverged, {fact['failed']} failed; {fact['missing']} missing",
        f"  {fact['seconds']:.1f} core-seconds of training",
    ]
    for key, values in fact["axes"].items():
        lines.append(f"  {key}: {listing([_text(value) for value in values])}")
    lines += [f"  classes: {listing(names)}" for names in fact["labels"]]
    for job in fact.get("missing_jobs", []):
        said = "  ".join(f"{key}={_text(job[key])}" for key in job if key != "job")
        lines.append(f"  missing {job['job']}  {said}")
    if fact["missing"] and fact["missing"] > len(fact.get("missing_jobs", [])) > 0:
        lines.append(f"  … and {fact['missing'] - len(fact['missing_jobs'])} more are missing")
    if left := fact.get("missing_by_shard"):
        shown = listing([f"{shard}: {number}" for shard, number in left.items()], 16)
        lines.append(f"  missing by shard  {shown}")
    for job, error in fact["failures"].items():
        lines += [f"  failed {job}:", *(f"    {line}" for line in str(error).splitlines())]
    return lines


def _show_learning(folder: Path) -> None:
    """Accuracy by epoch, static and the best cell of each group."""
    from tiltcli.cli.learning import learning
    from tiltcli.cli.streams import output
    from tiltcli.store.read import read

    lines = learning(read(folder), output().width)
    sys.stdout.write("".join(f"{line}\n" for line in ["", *lines] if lines))


def _cells(folder: Path) -> list[dict[str, Any]]:
    """The table of cells, for machines."""
    from tiltcli.evaluation.cells import cell_records, gather
    from tiltcli.store.read import read_jobs

    jobs = read_jobs(folder)
    metrics = [name for name in METRICS if jobs[name].notna().any()]
    return cell_records(gather(jobs, metrics)) if len(jobs) else []
