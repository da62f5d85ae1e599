"""The batch script of `tiltcli new slurm`."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from tiltcli.cli.templates import FOLDER
from tiltcli.errors import Fault, UserError

TEMPLATE = "slurm"
ABOUT = "A batch script that runs a grid as an array job of Slurm (--grid, --shards …)."

NOTICE_SECONDS = 120
MOST_REQUEUES = 50

_TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):(\d\d):(\d\d)")
_MEMORY = re.compile(r"\d+[KMGT]?")
_PARTITION = re.compile(r"[\w.,-]+")


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
    """Return a batch script that trains a grid as an array job.

    Args:
        grid: the grid file; it is read, so that its faults show before anything waits in a queue.
        shards: tasks of the array; there are no more than jobs.
        results: folder that runs are kept under, on a file system of all nodes.
        cpus: cores of each task: jobs it trains at once.
        memory: of each task, as `--mem` has it.
        time: limit of each task, as `--time` has it.
        partition: of the cluster; None for its default.

    Raises:
        UserError: with every fault of the grid or the options.

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
