"""`tiltcli new`."""

from __future__ import annotations

import itertools
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from tiltcli.cli import slurm
from tiltcli.cli.app import app
from tiltcli.cli.completion import template_names
from tiltcli.cli.templates import templates
from tiltcli.errors import UserError, with_suggestion


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
    grid: Annotated[
        Path | None, typer.Option("--grid", help="slurm: the grid file.", show_default=False)
    ] = None,
    shards: Annotated[int, typer.Option("--shards", help="slurm: tasks of the array.")] = 8,
    results: Annotated[
        Path, typer.Option("--results", help="slurm: folder that runs are kept under.")
    ] = Path("results"),
    cpus: Annotated[int, typer.Option("--cpus", help="slurm: cores of each task.")] = 2,
    memory: Annotated[str, typer.Option("--mem", help="slurm: memory of each task.")] = "4G",
    time: Annotated[str, typer.Option("--time", help="slurm: limit of each task.")] = "04:00:00",
    partition: Annotated[str | None, typer.Option("--partition", help="slurm: where to.")] = None,
) -> None:
    """Write a starting grid file to stdout: a first look, or one of the shipped sweeps.

    Example: [bold]tiltcli new spiral-phase > grid.toml[/bold]

    Or a batch script that runs a grid as an array job of Slurm:
    [bold]tiltcli new slurm --grid grid.toml --shards 16 > job.sh[/bold], then sbatch job.sh.
    """
    known = templates()
    if template == slurm.TEMPLATE and not show:
        sys.stdout.write(
            slurm.slurm_script(
                grid or Path("grid.toml"),
                shards=shards,
                results=results,
                cpus=cpus,
                memory=memory,
                time=time,
                partition=partition,
            )
        )
        return
    if show:
        longest = max(map(len, known))
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
        indent = " " * (longest + 2)
        about = {name: _about(text) for name, text in known.items()}
        for name, said in {**about, slurm.TEMPLATE: slurm.ABOUT}.items():
            line = f"{name:<{longest}}  {said}"
            print("\n".join(textwrap.wrap(line, columns, subsequent_indent=indent)))  # noqa: T201
        return
    if template not in known:
        every = [*known, slurm.TEMPLATE]
        raise UserError(with_suggestion(f"no template {template}", template, every, limit=20))
    if grid is not None:
        raise UserError("--grid: only with slurm: tiltcli new slurm --grid grid.toml > job.sh")
    sys.stdout.write(known[template])
