"""`tiltcli runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tiltcli.cli.app import app
from tiltcli.cli.sweep import Results
from tiltcli.records import UserError, listing


@app.command()
def runs(
    run: Annotated[
        str | None, typer.Argument(help="A run, by name or path.", show_default=False)
    ] = None,
    results: Results = Path("results"),
    output_format: Annotated[
        str, typer.Option("--format", metavar="table|json", help="Form of the output.")
    ] = "table",
) -> None:
    """List the runs, or show one run's axes, progress and failures.

    Example: [bold]tiltcli runs spiral-phase[/bold]
    """
    from tiltcli.store.read import find_run, list_runs

    if output_format not in ("table", "json"):
        raise UserError(f"--format: got {output_format}; allowed: table, json")
    if run is not None:
        _show_one(_facts(find_run(run, results)), output_format)
        return
    facts = [_facts(results / name) for name in list_runs(results)]
    if output_format == "json":
        print(json.dumps({"format": 1, "runs": facts}, indent=1))  # noqa: T201
        return
    if not facts:
        raise UserError(f"no runs under {results}/; tiltcli sweep makes one")
    from rich.table import Table

    from tiltcli.cli.console import output

    table = Table(box=None, pad_edge=False)
    for name in ("run", "jobs", "done", "diverged", "failed"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    for fact in facts:
        table.add_row(fact["name"], *(str(fact[k]) for k in ("jobs", "done", "diverged", "failed")))
    output().print(table)


def _facts(folder: Path) -> dict[str, Any]:
    from tiltcli.records import Outcome
    from tiltcli.spec import load_sweep
    from tiltcli.store.read import read_jobs

    jobs = read_jobs(folder)
    counts = jobs["outcome"].value_counts()
    try:
        total = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["jobs"]
    except (OSError, ValueError, KeyError, TypeError):
        total = None
    try:
        axes = {key: list(values) for key, values in load_sweep(folder / "sweep.toml").axes.items()}
    except UserError:
        axes = {}  # its data files have moved; the tables still stand
    failed = jobs[jobs["outcome"] == Outcome.FAILED]
    return {
        "name": folder.resolve().name,
        "folder": str(folder),
        "jobs": total,
        "done": len(jobs),
        "missing": None if total is None else max(total - len(jobs), 0),
        "completed": int(counts.get(Outcome.COMPLETED, 0)),
        "diverged": int(counts.get(Outcome.DIVERGED, 0)),
        "failed": len(failed),
        "seconds": float(jobs["seconds"].sum()),
        "axes": axes,
        "failures": dict(zip(failed["job"], failed["error"], strict=True)),
    }


def _show_one(fact: dict[str, Any], output_format: str) -> None:
    if output_format == "json":
        print(json.dumps({"format": 1, **fact}, indent=1))  # noqa: T201
        return
    lines = [
        f"{fact['name']} ({fact['folder']})",
        f"  {fact['done']} of {fact['jobs']} jobs done: {fact['completed']} completed, "
        f"{fact['diverged']} diverged, {fact['failed']} failed; {fact['missing']} missing",
        f"  {fact['seconds']:.1f} core-seconds of training",
    ]
    lines += [f"  {key}: {listing(values)}" for key, values in fact["axes"].items()]
    for job, error in fact["failures"].items():
        lines += [f"  failed {job}:", *(f"    {line}" for line in str(error).splitlines())]
    print("\n".join(lines))  # noqa: T201
