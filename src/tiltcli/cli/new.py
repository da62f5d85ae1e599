"""`tiltcli new`."""

from __future__ import annotations

import sys
from importlib import resources
from typing import Annotated

import typer

from tiltcli.cli.app import app
from tiltcli.records import UserError, listing, nearest


def templates() -> dict[str, str]:
    """Texts of the shipped grid files, by name."""
    folder = resources.files("tiltcli") / "templates"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


@app.command()
def new(
    template: Annotated[str, typer.Argument(help="Name of a template.")] = "spiral",
    show: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
) -> None:
    """Write a starting grid file to stdout.

    Example: [bold]tiltcli new spiral > grid.toml[/bold]
    """
    known = templates()
    if show:
        for name, text in known.items():
            print(f"{name}  {text.splitlines()[0].lstrip('# ')}")  # noqa: T201
        return
    if template not in known:
        close = nearest(template, known)
        hint = f"; did you mean {close}?" if close else ""
        raise UserError(f"no template {template}; there are {listing(list(known))}{hint}")
    sys.stdout.write(known[template])
