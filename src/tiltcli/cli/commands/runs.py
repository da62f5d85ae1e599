"""`tiltcli runs`, `tiltcli rm` and `tiltcli mv`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tiltcli.cli import options as opt
from tiltcli.cli.options import app, flag, option, say
from tiltcli.cli.rendering import Result, write
from tiltcli.errors import RUN_COUNTS, UserError, each, listing

if TYPE_CHECKING:
    from tiltcli.evaluation.texts import Table

COUNTS = (*RUN_COUNTS[:4], "completed", *RUN_COUNTS[4:])
"""Columns of the CSV."""
METRICS = [f"{part}_{what}" for part in ("train", "val", "test") for what in ("accuracy", "loss")]


@app.command()
def runs(
    run: opt.RunOrAll = None,
    sort: str = option(
        "--sort",
        f"Order of the list, names rising, all else falling: {', '.join(RUN_COUNTS)}.",
        "COLUMN",
        default="name",
    ),
    results: opt.Results = opt.RESULTS,
    output_format: opt.OutputFormat = opt.Format.TABLE,
) -> None:
    """List the runs, or show one run's axes, progress and failures.

    Example: [bold]tiltcli runs spiral-phase[/bold]
    """
    from tiltcli.store.read import find_run
    from tiltcli.store.run_folders import all_facts, facts_of

    if run is not None:
        folder = find_run(run, results)
        fact = facts_of(folder, whole=True)
        if output_format is opt.Format.JSON:
            fact["cells"] = _cells(folder)
        write(Result("runs", fact, COUNTS, [fact], _lines(fact)), output_format)
        if output_format is opt.Format.TABLE:
            _show_learning(folder)
        return
    whole = output_format is opt.Format.JSON
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
    from tiltcli.cli.standings import learning
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


@app.command()
def rm(
    runs: opt.Runs,
    yes: bool = flag("--yes -y", "Do not ask."),
    results: opt.Results = opt.RESULTS,
) -> None:
    """Remove runs, with all that was measured.

    Example: [bold]tiltcli rm spiral-phase[/bold]

    It asks first; --yes does without.
    """
    from tiltcli.store.read import find_run
    from tiltcli.store.run_folders import facts_of, remove_run

    folders = each(lambda run: find_run(run, results), dict.fromkeys(runs))
    for folder in folders:
        fact = facts_of(folder)
        what = f"{folder}: {fact['done']} jobs, {fact['seconds']:.0f} core-seconds of training"
        if yes or _meant(f"{what}. Remove it?"):
            remove_run(folder)
            say(f"removed: {what}")


def _meant(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise UserError("not answered, so not removed; --yes does not ask") from None


@app.command()
def mv(
    run: opt.Run,
    name: str = typer.Argument(metavar="NAME", show_default=False, help="New name."),
    results: opt.Results = opt.RESULTS,
) -> None:
    """Give a run another name.

    Example: [bold]tiltcli mv spiral-phase spiral-phase-old[/bold]

    A run is called what its folder is called: renaming the folder does it as well.
    """
    from tiltcli.store.read import find_run
    from tiltcli.store.run_folders import rename_run

    sys.stdout.write(f"{rename_run(find_run(run, results), name)}\n")
