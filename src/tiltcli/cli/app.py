"""The application, without its commands: they import it, and `cli.main` imports them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Annotated

import typer

import tiltcli
from tiltcli.errors import harmless

app = typer.Typer(
    name="tiltcli",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Sweeps with dynamical loss functions: train, compare and draw.\n\n"
    "Example: [bold]tiltcli sweep sweeps/spiral-phase.toml[/bold]",
)

USAGE = 2
INTERRUPTED = 130


def _version(value: bool) -> None:
    if value:
        print(f"tiltcli {tiltcli.__version__}")  # noqa: T201 - machine output
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours (as with NO_COLOR set).")
    ] = False,
) -> None:
    pass


def say(text: str) -> None:
    """Write a message to stderr; on a terminal, long lines break between words."""
    text = "\n".join(map(harmless, text.split("\n")))
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        lines = (
            textwrap.wrap(line, columns, subsequent_indent="  ") if len(line) > columns else [line]
            for line in text.split("\n")
        )
        text = "\n".join(line for some in lines for line in some)
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
