"""`tiltcli plot`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiltcli.cli.app import app, say
from tiltcli.cli.sweep import Results
from tiltcli.records import UserError, listing, nearest

if TYPE_CHECKING:
    from tiltcli.store.read import Tables

KINDS = ("phase", "gamma", "trace", "curves")


@app.command()
def plot(
    kind: Annotated[
        str, typer.Argument(metavar="|".join(KINDS), show_default=False, help="What to draw.")
    ],
    run: Annotated[str, typer.Argument(show_default=False, help="A run, by name or path.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Figure to write: .png, .svg or .pdf."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Column to draw (phase, curves).")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONDITION", help="Keep jobs such as 'model.width == 30'."),
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", help="Id of the job to draw, or its beginning.")
    ] = None,
    zoom: Annotated[
        str | None, typer.Option("--zoom", metavar="FIRST,LAST", help="Steps to enlarge (trace).")
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Draw a run: phase diagram, class weights, one training's trace, or learning curves.

    Example: [bold]tiltcli plot phase spiral-phase -o phase.svg[/bold]

    Without -o the figure goes to the run's own folder, RUN/figures/KIND.png.
    """
    if kind not in KINDS:
        close = nearest(kind, KINDS)
        hint = f"; did you mean {close}?" if close else ""
        raise UserError(f"no figure {kind!r}; allowed: {', '.join(KINDS)}{hint}")
    from tiltcli.plots.style import check_path, save
    from tiltcli.store.read import find_run, read

    folder = find_run(run, results)
    tables = _selected(read(folder), where or [], job)
    if output is None:
        output = folder / "figures" / f"{kind}.png"
        output.parent.mkdir(exist_ok=True)
    check_path(output)
    save(_figure(kind, folder, tables, metric, _window(zoom)), output)
    sys.stdout.write(f"{output}\n")


def _selected(tables: Tables, where: list[str], job: str | None) -> Tables:
    from dataclasses import replace

    from tiltcli.selection import parse_selection, select

    jobs = tables.jobs
    if jobs.empty:
        raise UserError(f"{tables.name}: no job has finished yet: there is nothing to draw")
    jobs = select(jobs, [c for text in where for c in parse_selection(text)], tables.name)
    if job is not None:
        chosen = jobs[jobs["job"].str.startswith(job)]
        if chosen.empty:
            raise UserError(
                f"--job: no job {job} in {tables.name}; there are {listing(list(jobs['job']), 6)}"
            )
        jobs = chosen
    return replace(tables, jobs=jobs)


def _window(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, last = text.partition(",")
    try:
        window = int(first), int(last)
    except ValueError:
        window = (0, 0)
    if not 0 <= window[0] < window[1]:
        raise UserError(f"--zoom: got {text}; allowed: FIRST,LAST, two rising whole numbers ≥ 0")
    return window


def _figure(
    kind: str, folder: Path, tables: Tables, metric: str | None, zoom: tuple[int, int] | None
) -> Any:
    if kind == "phase":
        from tiltcli.plots.phase import phase

        return phase(tables.jobs, metric or "val_accuracy", tables.name)
    if kind == "curves":
        from tiltcli.plots.curves import curves

        return curves(tables.jobs, tables.metrics, metric or "train_accuracy", tables.name)
    from tiltcli.traces import pick, trace_of

    one = pick(folder, tables, dynamical=kind == "gamma")
    if len(tables.jobs) > 1:
        say(f"note: {len(tables.jobs)} jobs; drawn: {one.id} (choose with --job or --where)")
    found = trace_of(tables, one)
    if kind == "gamma":
        from tiltcli.plots.gamma import gamma_figure

        assert found.schedule is not None
        return gamma_figure(found.schedule, tables.name)
    from tiltcli.plots.trace import trace

    return trace(found, zoom)
