"""The application, its entry point, and the one place where the user's errors are caught."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from typing import Annotated

import typer

import tiltcli
from tiltcli.records import UserError

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
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        lines = (
            textwrap.wrap(line, columns, subsequent_indent="  ") if len(line) > columns else [line]
            for line in text.split("\n")
        )
        text = "\n".join(line for some in lines for line in some)
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def load_commands() -> None:
    """Import the commands, which thereby join the application."""
    from tiltcli.cli import (  # noqa: F401 - commands
        compare,
        confirm,
        instabilities,
        new,
        plot,
        probe,
        report,
        runs,
        schema,
        sweep,
    )

    for command in app.registered_commands:
        command.help = _flowing(command.help or inspect.getdoc(command.callback) or "")


def _flowing(text: str) -> str:
    """Join the lines of each paragraph, so that it fills whatever the terminal is wide."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(re.sub(r"\n(?!- )\s*", " ", one) for one in paragraphs)


def main() -> None:
    """Run the tool; the only place that turns errors into messages and exit codes."""
    # Wherever it stands on the line: `tiltcli sweep grid.toml --no-color` should work too.
    if "--no-color" in sys.argv[1:]:
        os.environ["NO_COLOR"] = "1"
        sys.argv = [sys.argv[0], *(word for word in sys.argv[1:] if word != "--no-color")]
    from tiltcli.cli.console import set_up_streams

    set_up_streams()
    load_commands()
    try:
        app(prog_name="tiltcli")
    except UserError as error:
        for fault in error.faults:
            say(f"error: {fault}")
        sys.exit(USAGE)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        say(f"error: {error.filename or ''}: {error.strerror}")
        sys.exit(USAGE)
