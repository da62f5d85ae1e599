"""`tiltcli new` and `tiltcli schema`: grid files, and the batch script of `tiltcli new slurm`."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import typer

from tiltcli.cli.options import app, flag, option
from tiltcli.errors import Fault, UserError, with_suggestion

FOLDER = resources.files("tiltcli") / "grid" / "templates"
"""The starters; in its folder `shipped`, the grid files of the repository's `sweeps`."""

TEMPLATE = "slurm"
ABOUT = "A batch script that runs a grid as an array job of Slurm (--grid, --shards …)."

NOTICE_SECONDS = 120
MOST_REQUEUES = 50

_TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):(\d\d):(\d\d)")
_MEMORY = re.compile(r"\d+[KMGT]?")
_PARTITION = re.compile(r"[\w.,-]+")


def templates() -> dict[str, str]:
    """Texts of the grid files, by name: starters, then the shipped sweeps."""
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for folder in (FOLDER, FOLDER / "shipped")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name.removesuffix(".toml"))
        if entry.name.endswith(".toml")
    }


def slurm_script(
    grid: Path,
    *,
    shards: int = 8,
    results: Path = Path("results"),
    cpus: int = 2,
    memory: str = "4G",
    time: str = "04:00:00",
    partition: str | None = None,
) -> str:
    """Return a batch script that trains a grid as an array job of `shards` tasks.

    `memory` and `time`, of each task, are as `--mem` and `--time` have them.

    Raises:
        UserError: with every fault of the grid, which is read, or the options.

    """
    from tiltcli.grid import load_sweep
    from tiltcli.grid.shards import MOST_SHARDS

    faults: list[Fault] = []
    for key, value, pattern, allowed in (
        ("--time", time, _TIME, "HH:MM:SS or D-HH:MM:SS, as 04:00:00"),
        ("--mem", memory, _MEMORY, "a size, as 4G"),
        ("--partition", partition or "default", _PARTITION, "names of partitions"),
    ):
        if not pattern.fullmatch(value):
            faults.append(Fault(f"got {value!r}; allowed: {allowed}", key=key))
    if (limit := _TIME.fullmatch(time)) and _seconds(limit) < 5 * NOTICE_SECONDS:
        said = f"got {time}; allowed: {5 * NOTICE_SECONDS // 60} minutes or more: the task is "
        faults.append(Fault(f"{said}warned {NOTICE_SECONDS} s before the end", key="--time"))
    if cpus < 1:
        faults.append(Fault(f"got {cpus}; allowed: 1 or more", key="--cpus"))
    if not 1 <= shards <= MOST_SHARDS:
        faults.append(Fault(f"got {shards}; allowed: 1 to {MOST_SHARDS}", key="--shards"))
    try:
        sweep = load_sweep(grid)
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(*faults)
    jobs = len(sweep.jobs)
    values = {
        "JOBS": f"The {jobs} jobs of {grid.name}" if jobs > 1 else f"The one job of {grid.name}",
        "NAME": sweep.name,
        "RUNS": f"tiltcli runs {sweep.name}".ljust(30),
        "SHARDS": str(min(shards, jobs)),
        "CPUS": str(cpus),
        "MEMORY": memory,
        "TIME": time,
        "PARTITION": f"#SBATCH --partition={partition}\n" if partition else "",
        "NOTICE": str(NOTICE_SECONDS),
        "REQUEUES": str(MOST_REQUEUES),
        "TILTCLI": shlex.join([sys.executable, "-m", "tiltcli"]),
        "FOLDER": shlex.quote(str(Path.cwd())),
        "GRID": shlex.quote(str(grid)),
        "RESULTS": shlex.quote(str(results)),
    }
    text = (FOLDER / "slurm.sh").read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)


def _seconds(limit: re.Match[str]) -> int:
    days, hours, minutes, seconds = (int(part or 0) for part in limit.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


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
    ctx: typer.Context,
    template: str = typer.Argument("spiral", help="Name of a template.", autocompletion=_names),
    show: bool = flag("--list", "List the templates."),
    grid: Path | None = option("--grid", "slurm: the grid file; default: grid.toml."),
    shards: int | None = option("--shards", "slurm: tasks of the array; default: 8."),
    results: Path | None = option("--results", "slurm: folder of runs; default: results."),
    cpus: int | None = option("--cpus", "slurm: cores of each task; default: 2."),
    memory: str | None = option("--mem", "slurm: memory of each task; default: 4G."),
    time: str | None = option("--time", "slurm: limit of each task; default: 04:00:00."),
    partition: str | None = option("--partition", "slurm: where to."),
) -> None:
    """Write a starting grid file to stdout: a first look, or one of the shipped sweeps.

    Example: [bold]tiltcli new spiral-phase > grid.toml[/bold]

    Or a batch script that runs a grid as an array job of Slurm:
    [bold]tiltcli new slurm --grid grid.toml --shards 16 > job.sh[/bold], then sbatch job.sh.
    """
    given = {name: value for name, value in ctx.params.items() if value is not None}
    del given["template"], given["show"]  # the others are of the script
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


@app.command()
def schema() -> None:
    """Write the JSON Schema of grid files to stdout, for editors that complete and check them.

    Example: [bold]tiltcli schema > grid.schema.json[/bold]

    With [bold]#:schema grid.schema.json[/bold] as its first line, editors with TOML support (Taplo,
    Even Better TOML) say what each setting of a grid file means, complete it, and mark mistakes.
    """
    from tiltcli.grid.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1, ensure_ascii=False))  # noqa: T201
