"""`tiltcli compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiltcli.cli.app import app, say
from tiltcli.cli.sweep import Results
from tiltcli.records import UserError, nearest

if TYPE_CHECKING:
    from tiltcli.comparison import Comparison

FORMATS = ("table", "json", "csv", "markdown")


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", show_default=False, help="A run.")],
    run_b: Annotated[
        str,
        typer.Argument(metavar="RUN_B", show_default=False, help="Another; differences are B − A."),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONDITION", help="Keep jobs such as 'model.width == 30'."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Column to compare; may be repeated. Default: accuracies."),
    ] = None,
    best: Annotated[
        str | None,
        typer.Option("--best", metavar="METRIC", help="Keep per width the cell it rates highest."),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="Training accuracy that fits.")
    ] = 0.99,
    output_format: Annotated[
        str, typer.Option("--format", metavar="|".join(FORMATS), help="Form of the output.")
    ] = "table",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the differences to this file too.")
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Compare two runs pair by pair: what differs, by how much, and how sure that is.

    Example: [bold]tiltcli compare phase@loss.kind=static phase@loss.kind=dynamical[/bold]

    A RUN is a name under results/ or a path, with an optional selection after @. Jobs are paired on
    all settings they share, so also on the seed. Intervals are 95%; p-values are exact paired
    permutation tests, corrected (Holm) over the rows.
    """
    if output_format not in FORMATS:
        close = nearest(output_format, FORMATS)
        hint = f"; did you mean {close}?" if close else ""
        raise UserError(f"--format: got {output_format}; allowed: {', '.join(FORMATS)}{hint}")
    from tiltcli.api import compare as compare_runs
    from tiltcli.comparison import METRICS
    from tiltcli.plots.style import check_path

    if plot is not None:
        check_path(plot)
    found = compare_runs(
        run_a,
        run_b,
        results=results,
        where=where or (),
        metrics=metric or METRICS,
        threshold=threshold,
        best=best,
    )
    if output_format == "table":
        _show(found)
    else:
        from tiltcli import tables

        text = getattr(tables, f"to_{output_format}")(found)
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
    if plot is not None:
        from tiltcli.plots.forest import forest
        from tiltcli.plots.style import save

        save(forest(found), plot)
        say(f"written: {plot}")


def _show(comparison: Comparison) -> None:
    from rich.table import Table

    from tiltcli.cli.console import output
    from tiltcli.tables import blocks

    console = output()
    console.print(f"a  {comparison.name_a}\nb  {comparison.name_b}", highlight=False)
    for block in blocks(comparison):
        console.print(f"\n{block.metric}", style="bold")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in block.header:
            table.add_column(name, justify="left" if name == "regime" else "right", no_wrap=True)
        for row in block.rows:
            table.add_row(*row)
        console.print(table)
    for note in comparison.notes:
        say(f"note: {note}")
