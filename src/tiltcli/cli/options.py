"""The application without its commands, and what several of them take: arguments, options, choices.

The commands import it, and `cli.main` imports them.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import tiltcli
from tiltcli.errors import Fault, UserError, harmless, with_suggestion

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

Format = StrEnum("Format", ["TABLE", "JSON", "CSV", "MARKDOWN"])
"""Form of a command's output."""

EngineName = StrEnum("EngineName", ["AUTO", "FUSED", "TORCH"])
"""What trains the jobs."""

Device = StrEnum("Device", ["AUTO", "CPU", "CUDA"])
"""Where torch trains."""

Size = StrEnum("Size", ["ONE", "TWO"])
"""Width of a figure in columns of a paper."""

Style = StrEnum("Style", ["PAPER", "SCREEN", "DARK"])
"""Fonts and colours of a figure."""

RESULTS = Path("results")
"""Default of --results."""


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


def run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the runs under --results that begin so, and that the line does not name yet.

    The store's reader would load pandas, and the shell waits: the folder is looked at directly.
    """
    results = Path(ctx.params.get("results") or "results")
    given = ctx.params.get("runs") or ()
    names = sorted(path.parent.name for path in results.glob("*/sweep.toml"))
    return [name for name in names if name.startswith(incomplete) and name not in given]


def option(
    flags: str, text: str, metavar: str | None = None, default: Any = None, **more: Any
) -> Any:
    """Option of a command: its flags, as `-o --output`, and what it is."""
    return typer.Option(default, *flags.split(), help=text, metavar=metavar, **more)


flag = partial(option, default=False)
"""Option that is given or not."""

shared = partial(option, default=...)
"""Option of several commands, which have each their own default."""


def choice(kind: type[StrEnum], flag: str, text: str, default: Any = ...) -> Any:
    """Option whose value is one of an enum's; a wrong word is refused with the nearest."""

    def parse(word: str) -> StrEnum:
        try:
            return kind(word)
        except ValueError:
            message = with_suggestion(f"got {word}", word, kind)
            raise UserError(Fault(message, key=flag)) from None

    def complete(incomplete: str) -> list[str]:
        return [one for one in kind if one.startswith(incomplete)]

    return option(flag, text, "|".join(kind), default, parser=parse, autocompletion=complete)


def run_argument(text: str = "A run, by name or path.", metavar: str | None = None) -> Any:
    """Argument that is a run."""
    return typer.Argument(metavar=metavar, show_default=False, help=text, autocompletion=run_names)


Run = Annotated[str, run_argument()]
RunOrAll = Annotated[str | None, run_argument()]
Runs = Annotated[list[str], run_argument("Runs, by name or path.", "RUN…")]
Results = Annotated[Path, shared("--results", "Folder that runs are kept under.")]
Where = Annotated[
    list[str] | None,
    shared("--where", "Only jobs such as 'model.width == 30'; repeatable.", "CONDITION"),
]
Methods = Annotated[
    str | None,
    shared("--methods", "Settings that tell methods apart; default: loss.kind.", "SETTING,…"),
]
By = Annotated[
    str | None,
    shared(
        "--by", "Settings that tell rows apart; default: the network and the data.", "SETTING,…"
    ),
]
OneJob = Annotated[str | None, shared("--job", "Only the job with this id, or its beginning.")]
Workers = Annotated[
    int | None,
    shared("--workers", "Jobs trained at once; 0: in this process; default: one per core.", "N"),
]
Cluster = Annotated[str | None, shared("--cluster", "Dask scheduler, tcp://host:8786.", "ADDRESS")]
Quiet = Annotated[bool, shared("--quiet -q", "Only errors.")]
OutputFormat = Annotated[Format, choice(Format, "--format", "Form of the output.")]
GridOutput = Annotated[Path | None, shared("-o --output", "Grid file to write; default: stdout.")]


def trained_by(cluster: str | None, send_tables: bool = False) -> AbstractContextManager[Any]:
    """Return what gives the trainer of the jobs: a Dask cluster's; None for this machine."""
    if cluster is None:
        return nullcontext()
    from tiltcli.execution.dask import ClusterTrainer

    return ClusterTrainer(cluster, send_tables)


def numbers(
    flag: str, text: str, kind: type, between: str, allowed: str, many: int | None = None
) -> Any:
    """Return the numbers in the text of an option as a tuple, or say what is allowed."""
    found = ()
    with suppress(ValueError):
        found = tuple(kind(word) for word in text.split(between))
    if not found or (many and len(found) != many):
        raise UserError(f"{flag}: got {text}; allowed: {allowed}")
    return found


def report(notes: Iterable[str]) -> None:
    """Say what the user should know."""
    for note in notes:
        say(f"note: {note}")


def end(interrupted: bool, failed: bool = False) -> NoReturn:
    """End a command that added to a run, with its exit code."""
    if interrupted:
        say("interrupted: what was added is kept; run the same command again to resume")
    raise typer.Exit(INTERRUPTED if interrupted else int(failed))


def names(text: str | None) -> list[str] | None:
    """Names from a comma-separated option; None where it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
