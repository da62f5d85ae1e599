"""`tiltcli new`."""

from __future__ import annotations

import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from tiltcli.cli.app import app
from tiltcli.cli.options import option
from tiltcli.cli.templates import ABOUT, TEMPLATE, slurm_script, templates
from tiltcli.errors import Fault, UserError, with_suggestion


def _names(incomplete: str) -> list[str]:
    """Templates that begin so, for the shell to complete."""
    return [name for name in templates() if name.startswith(incomplete)]


def _about(text: str) -> str:
    """First sentence of the comment that a template begins with."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines)
    return re.split(r"(?<=[.?!]) (?=[A-Z])", comment)[0]


@app.command()
def new(
    template: Annotated[
        str, typer.Argument(help="Name of a template.", autocompletion=_names)
    ] = "spiral",
    show: Annotated[bool, option("--list", "List the templates.")] = False,
    grid: Annotated[
        Path | None, option("--grid", "slurm: the grid file; default: grid.toml.")
    ] = None,
    shards: Annotated[
        int | None, option("--shards", "slurm: tasks of the array; default: 8.")
    ] = None,
    results: Annotated[
        Path | None, option("--results", "slurm: folder of runs; default: results.")
    ] = None,
    cpus: Annotated[int | None, option("--cpus", "slurm: cores of each task; default: 2.")] = None,
    memory: Annotated[
        str | None, option("--mem", "slurm: memory of each task; default: 4G.")
    ] = None,
    time: Annotated[
        str | None, option("--time", "slurm: limit of each task; default: 04:00:00.")
    ] = None,
    partition: Annotated[str | None, option("--partition", "slurm: where to.")] = None,
) -> None:
    """Write a starting grid file to stdout: a first look, or one of the shipped sweeps.

    Example: [bold]tiltcli new spiral-phase > grid.toml[/bold]

    Or a batch script that runs a grid as an array job of Slurm:
    [bold]tiltcli new slurm --grid grid.toml --shards 16 > job.sh[/bold], then sbatch job.sh.
    """
    options: dict[str, Any] = {
        "grid": grid,
        "shards": shards,
        "results": results,
        "cpus": cpus,
        "memory": memory,
        "time": time,
        "partition": partition,
    }
    given = {name: value for name, value in options.items() if value is not None}
    known = templates()
    if show:
        _refuse(given, "--list")
        _list({name: _about(text) for name, text in known.items()} | {TEMPLATE: ABOUT})
    elif template == TEMPLATE:
        sys.stdout.write(slurm_script(**{"grid": Path("grid.toml"), **given}))
    elif template in known:
        _refuse(given, template)
        sys.stdout.write(known[template])
    else:
        every = [*known, TEMPLATE]
        raise UserError(with_suggestion(f"no template {template}", template, every, limit=20))


def _refuse(given: Iterable[str], what: str) -> None:
    """Refuse options that only a batch script has a use for."""
    flags = [f"--{name}" if name != "memory" else "--mem" for name in given]
    if flags:
        only = "has no use for it; only tiltcli new slurm has"
        raise UserError(*(Fault(f"{what} {only}", key=flag) for flag in flags))


def _list(about: dict[str, str]) -> None:
    longest = max(map(len, about))
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    indent = " " * (longest + 2)
    for name, said in about.items():
        line = f"{name:<{longest}}  {said}"
        sys.stdout.write("\n".join(textwrap.wrap(line, columns, subsequent_indent=indent)) + "\n")
