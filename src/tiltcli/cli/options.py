"""What several commands take, said once: their arguments, their options, and the choices."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from tiltcli.cli.completion import run_names
from tiltcli.errors import Fault, UserError, with_suggestion

E = TypeVar("E", bound=StrEnum)


class Format(StrEnum):
    """Form of a command's output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


class EngineName(StrEnum):
    """What trains the jobs."""

    AUTO = "auto"
    FUSED = "fused"
    TORCH = "torch"


class Device(StrEnum):
    """Where torch trains."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Size(StrEnum):
    """Width of a figure in columns of a paper."""

    ONE = "one"
    TWO = "two"


class Style(StrEnum):
    """Fonts and colours of a figure."""

    PAPER = "paper"
    SCREEN = "screen"
    DARK = "dark"


def parser(kind: type[E], name: str) -> Callable[[str], E]:
    """Return what reads a word as one of an enum's; a wrong one is refused with the nearest."""

    def parse(word: str) -> E:
        try:
            return kind(word)
        except ValueError:
            message = with_suggestion(f"got {word}", word, kind)
            raise UserError(Fault(message, key=name)) from None

    return parse


def choice(kind: type[StrEnum], flag: str, text: str) -> Any:
    """Option whose value is one of an enum's."""

    def complete(incomplete: str) -> list[str]:
        return [one for one in kind if one.startswith(incomplete)]

    return typer.Option(
        flag,
        parser=parser(kind, flag),
        metavar="|".join(kind),
        autocompletion=complete,
        help=text,
    )


_RUN = typer.Argument(show_default=False, help="A run, by name or path.", autocompletion=run_names)

Run = Annotated[str, _RUN]
RunOrAll = Annotated[str | None, _RUN]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN…",
        show_default=False,
        help="Runs, by name or path.",
        autocompletion=run_names,
    ),
]
Results = Annotated[Path, typer.Option("--results", help="Folder that runs are kept under.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="CONDITION", help="Only jobs such as 'model.width == 30'; repeatable."
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="SETTING,…",
        help="Settings that tell methods apart; default: loss.kind.",
        show_default=False,
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="SETTING,…",
        help="Settings that tell rows apart; default: the network and the data.",
        show_default=False,
    ),
]
OneJob = Annotated[
    str | None, typer.Option("--job", help="Only the job with this id, or its beginning.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Jobs trained at once; 0: in this process; default: one per core.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="Dask scheduler, tcp://host:8786."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
OutputFormat = Annotated[Format, choice(Format, "--format", "Form of the output.")]


def names(text: str | None) -> list[str] | None:
    """Names from a comma-separated option; None where it was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


RESULTS = Path("results")
"""Default of --results."""
