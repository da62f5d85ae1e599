"""`tiltcli new`."""

from __future__ import annotations

import itertools
import re
import shutil
import sys
import textwrap
from importlib import resources
from typing import Annotated

import typer

from tiltcli.cli.app import app
from tiltcli.cli.completion import template_names
from tiltcli.records import UserError, listing, nearest


def templates() -> dict[str, str]:
    """Texts of the shipped grid files, by name."""
    folder = resources.files("tiltcli") / "templates"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def _about(text: str) -> str:
    """First sentence of the comment that a template begins with."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    return re.split(r"(?<=[.?!]) (?=[A-Z])", comment)[0]


@app.command()
def new(
    template: Annotated[
        str, typer.Argument(help="Name of a template.", autocompletion=template_names)
    ] = "spiral",
    show: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
) -> None:
    """Write a starting grid file to stdout: a first look, or one of the shipped sweeps.

    Example: [bold]tiltcli new spiral-phase > grid.toml[/bold]
    """
    known = templates()
    if show:
        longest = max(map(len, known))
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
        indent = " " * (longest + 2)
        for name, text in known.items():
            line = f"{name:<{longest}}  {_about(text)}"
            print("\n".join(textwrap.wrap(line, columns, subsequent_indent=indent)))  # noqa: T201
        return
    if template not in known:
        close = nearest(template, known)
        hint = f"; did you mean {close}?" if close else ""
        raise UserError(f"no template {template}; there are {listing(list(known))}{hint}")
    sys.stdout.write(known[template])
