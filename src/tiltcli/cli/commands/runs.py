"""`tiltcli runs`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.cli.app import app
from tiltcli.cli.options import RESULTS, Format, OutputFormat, Results, RunOrAll
from tiltcli.cli.rendering import Result, write
from tiltcli.errors import UserError, listing

if TYPE_CHECKING:
    from tiltcli.evaluation.texts import Table

SHOWN = 5  # missing jobs
COUNTS = ("name", "jobs", "done", "missing", "completed", "diverged", "failed", "seconds")
"""Columns of the CSV."""
METRICS = [f"{part}_{what}" for part in ("train", "val", "test") for what in ("accuracy", "loss")]


@app.command()
def runs(
    run: RunOrAll = None,
    results: Results = RESULTS,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List the runs, or show one run's axes, progress and failures.

    Example: [bold]tiltcli runs spiral-phase[/bold]
    """
    from tiltcli.store.read import find_run, list_runs

    if run is not None:
        folder = find_run(run, results)
        fact = _facts(folder, whole=True)
        if output_format is Format.JSON:
            fact["cells"] = _cells(folder)
        write(Result("runs", fact, COUNTS, [fact], _lines(fact)), output_format)
        if output_format is Format.TABLE:
            _show_learning(folder)
        return
    whole = output_format is Format.JSON
    facts = [_facts(results / name, whole=whole) for name in list_runs(results)]
    if not facts and not whole:
        raise UserError(f"no runs under {results}/; tiltcli sweep makes one")
    write(Result("runs", {"runs": facts}, COUNTS, facts, tables=[_table(facts)]), output_format)


def _table(facts: list[dict[str, Any]]) -> Table:
    from tiltcli.evaluation.texts import Table

    keys = ("name", "jobs", "done", "diverged", "failed")
    rows = tuple(tuple(str(fact[key]) for key in keys) for fact in facts)
    return Table("", ("run", *keys[1:]), rows, ("run",))


def _facts(folder: Path, *, whole: bool = False) -> dict[str, Any]:
    """What is known of a run; with `whole` also its axes and which jobs are missing."""
    from tiltcli.errors import Outcome
    from tiltcli.store.provenance import jobs_noted
    from tiltcli.store.read import read_jobs

    jobs = read_jobs(folder, ["seconds", "error", "labels"])
    counts = jobs["outcome"].value_counts()
    total = jobs_noted(folder)
    failed = jobs[jobs["outcome"] == Outcome.FAILED]
    labels = [_labels(text) for text in jobs["labels"].dropna().unique()]
    facts = {
        "name": folder.resolve().name,
        "folder": str(folder),
        "jobs": total,
        "done": len(jobs),
        "missing": None if total is None else max(total - len(jobs), 0),
        "completed": int(counts.get(Outcome.COMPLETED, 0)),
        "diverged": int(counts.get(Outcome.DIVERGED, 0)),
        "failed": len(failed),
        "seconds": float(jobs["seconds"].sum()),
        "axes": {},
        "labels": labels,
        "failures": dict(zip(failed["job"], failed["error"], strict=True)),
    }
    return {**facts, **_missing(folder, set(jobs["job"]))} if whole else facts


def _labels(text: Any) -> list[Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, list) else [str(text)]  # of a damaged table


def _missing(folder: Path, done: set[str]) -> dict[str, Any]:
    """Axes of a run's grid, and what of it is not done yet: how many jobs, of which shards."""
    from tiltcli.grid import load_run
    from tiltcli.grid.shards import Shard
    from tiltcli.store.provenance import shards_of

    try:
        sweep = load_run(folder)
    except UserError:
        return {}  # its data files have moved; the tables still stand
    missing = [job for job in sweep.jobs if job.id not in done]
    found: dict[str, Any] = {
        "axes": {key: list(values) for key, values in sweep.axes.items()},
        "jobs": len(sweep.jobs),
        "missing": len(missing),
        "missing_jobs": [
            {"job": job.id, **{key: job.get(key) for key in sweep.axes if key in job.settings}}
            for job in missing[:SHOWN]
        ],
    }
    if count := shards_of(folder):
        shards = [Shard(index, count) for index in range(1, count + 1)]
        left = {str(s): sum(job.id not in done for job in s.of(sweep.jobs)) for s in shards}
        found["missing_by_shard"] = {name: number for name, number in left.items() if number}
    return found


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
    from tiltcli.cli.console import output
    from tiltcli.cli.learning import learning
    from tiltcli.store.read import read

    lines = learning(read(folder), output().width)
    sys.stdout.write("".join(f"{line}\n" for line in ["", *lines] if lines))


def _cells(folder: Path) -> list[dict[str, Any]]:
    """The table of cells, for machines."""
    from tiltcli.evaluation.cell_records import cell_records
    from tiltcli.evaluation.cells import gather
    from tiltcli.store.read import read_jobs

    jobs = read_jobs(folder)
    metrics = [name for name in METRICS if jobs[name].notna().any()]
    return cell_records(gather(jobs, metrics)) if len(jobs) else []
