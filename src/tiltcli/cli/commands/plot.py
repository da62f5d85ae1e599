"""`tiltcli plot`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from tiltcli.api.plotting import KINDS
from tiltcli.cli import options as opt
from tiltcli.cli.options import app, choice, option, say
from tiltcli.errors import UserError

_TABLE = "\n".join(f"- {kind.name}: {kind.says}" for kind in KINDS.values())


def _kinds(incomplete: str) -> list[tuple[str, str]]:
    """Kinds that begin so, with what they show, for the shell to complete."""
    return [(kind.name, kind.says) for kind in KINDS.values() if kind.name.startswith(incomplete)]


@app.command(
    help="Draw a run.\n\n"
    "Example: [bold]tiltcli plot phase spiral-phase -o phase.svg[/bold]\n\n"
    f"The kinds:\n\n{_TABLE}\n\n"
    "RUN@SELECTION draws a part of a run. A setting that a kind has no axis for makes panels. "
    "map draws any two: [bold]--x train.lr --y loss.amplitude[/bold]. "
    "compare takes two runs, or one (static against the dynamical cell that validation chose). "
    "Without -o the figure goes to the run's own folder, RUN/figures/KIND.png."
)
def plot(
    kind: str = typer.Argument(
        metavar="KIND", show_default=False, help=", ".join(KINDS) + ".", autocompletion=_kinds
    ),
    runs: list[str] = opt.run_argument("Runs, by name or path.", "RUN…"),
    output: Path | None = option("-o --output", "Figure to write: .png, .svg or .pdf."),
    size: opt.Size = choice(opt.Size, "--size", "Width in columns of a paper.", opt.Size.TWO),
    width: float | None = option("--width", "Width in inches instead.", min=2.0, max=40.0),
    style: opt.Style = choice(opt.Style, "--style", "Fonts and colours.", opt.Style.PAPER),
    metric: str | None = option("--metric", "Column to draw (phase, map, curves, recall, budget)."),
    methods: opt.Methods = None,
    by: opt.By = None,
    where: opt.Where = None,
    job: opt.OneJob = None,
    zoom: str | None = option("--zoom", "Steps to enlarge (trace).", "FIRST,LAST"),
    x: str | None = option("--x", "Columns of the map (map).", "SETTING"),
    y: str | None = option("--y", "Rows of the map (map).", "SETTING"),
    results: opt.Results = opt.RESULTS,
) -> None:
    """Draw a run."""
    from tiltcli.api.plotting import plot as drawn
    from tiltcli.plots.style import SIZES
    from tiltcli.store.files import output_folder
    from tiltcli.store.read import find_run

    if kind in KINDS and output is None:
        folder = find_run(runs[0].partition("@")[0], results)
        output = output_folder(folder / "figures") / f"{kind}.png"
    drawn(
        kind,
        *runs,
        output=output,
        results=results,
        where=where or (),
        metric=metric,
        job=job,
        zoom=None if zoom is None else _window(zoom),
        x=x,
        y=y,
        methods=opt.names(methods),
        by=opt.names(by),
        width=width or SIZES[size],
        style=style,
        say=lambda note: say(f"note: {note}"),
    )
    sys.stdout.write(f"{output}\n")


def _window(text: str) -> tuple[int, int]:
    allowed = "FIRST,LAST, two rising whole numbers ≥ 0"
    first, last = opt.numbers("--zoom", text, int, ",", allowed, 2)
    if not 0 <= first < last:
        raise UserError(f"--zoom: got {text}; allowed: {allowed}")
    return first, last
