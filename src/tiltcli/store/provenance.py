"""Where a run comes from: its grid, versions, machine and command line."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

import tiltcli
from tiltcli.errors import UserError
from tiltcli.grid import Sweep, kept_grids, load_run
from tiltcli.grid.factories import INSTALLED, locate
from tiltcli.grid.paths import located
from tiltcli.grid.settings import FACTORIES, PATHS, outputs
from tiltcli.grid.shards import Shard
from tiltcli.store.files import write_text

_LIBRARIES = ("numpy", "numba", "torch", "pandas", "pyarrow", "scipy", "scikit-learn")


def document_of(sweep: Sweep, folder: Path) -> dict[str, Any]:
    """Grid with `--set` applied, its paths made relative to the run's folder."""
    document: dict[str, Any] = {"name": sweep.name, **sweep.document}
    for block in (document, *document.get("also", [])):
        for key in PATHS:
            table, _, name = key.partition(".")
            if name in block.get(table, {}):
                value = block[table][name]
                moved = (
                    [_moved(key, v, sweep.folder, folder) for v in value]
                    if isinstance(value, list)
                    else _moved(key, value, sweep.folder, folder)
                )
                block[table] = {**block[table], name: moved}
    return document


def _moved(key: str, path: str, origin: Path, folder: Path) -> str:
    factory = key in FACTORIES and locate(path, origin)
    if factory and INSTALLED & {*Path(factory).parts}:
        return path  # a module's name
    target = Path(factory) if factory else located(path, origin).resolve()
    return _relative(target, folder)


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(path)


def check_same_grid(folder: Path, sweep: Sweep, extend: bool = False) -> None:
    """Refuse to mix two grids under one name, unless the run is to grow; say what differs."""
    path = folder / "sweep.toml"
    if not path.exists():
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is in the way: not a folder")
        return
    _check_same_files(folder, sweep)
    apart = [_apart(kept, folder, sweep) for kept in kept_grids(folder)]
    if not all(apart):
        return
    if not extend:
        shown = "; ".join(apart[-1][:8]) + ("; …" if len(apart[-1]) > 8 else "")
        raise UserError(
            f"{folder}: holds a run of another grid ({shown}). --extend lets that run grow by "
            f"what is new here; or give this grid its own name (--set name={sweep.name}-2), or "
            "--fresh to remove the old run"
        )
    there = {job.id for job in load_run(folder).jobs}
    here = {job.id for job in sweep.jobs}
    if here < there:
        raise UserError(
            f"{folder}: --extend: this grid adds no job to the run's {len(there)} and would leave "
            f"{len(there - here)} of them out; a run only grows: add values to its axes, or give "
            f"this grid its own name (--set name={sweep.name}-2)"
        )


def files_of(sweep: Sweep, folder: Path) -> dict[str, str]:
    """Digests of the files that a grid names, by their paths relative to the run's folder."""
    return {_relative(Path(path), folder): digest for path, digest in sweep.files.items()}


def _check_same_files(folder: Path, sweep: Sweep) -> None:
    """Refuse files that have changed since an earlier call: one run is of one state of them."""
    now = files_of(sweep, folder)
    faults = [
        f"{path}: has changed since this run was begun: its digest is {now[path]} now, and was "
        f"{digest}. Run again with the file that it was, give the run of the new one a name of "
        f"its own (--set name={sweep.name}-2), or --fresh to remove the old run"
        for one in invocations(folder)
        for path, digest in dict(one.get("files") or {}).items()
        if now.get(path, digest) != digest
    ]
    if faults:
        raise UserError(*dict.fromkeys(faults))


def _apart(kept: Path, folder: Path, sweep: Sweep) -> list[str]:
    """What differs between a run's grid and this one; nothing where they are the same."""
    try:
        before = tomllib.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{kept}: cannot be read ({error}); --fresh starts the run anew") from None
    now = tomllib.loads(tomli_w.dumps(document_of(sweep, folder)))
    for document in (before, now):
        document.pop("name", None)  # the folder's; it may have been renamed
        document.pop("probe", None)  # probing changes no job, nor does judging or keeping
        for block in (document, *document.get("also", [])):
            for key in outputs():
                table, _, name = key.partition(".")
                if isinstance(block.get(table), dict):
                    block[table].pop(name, None)
        document.setdefault("sweep", {}).pop("methods", None)
    return _differences(before, now)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted({*a, *b}):
        one, two = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(two, dict) and not prefix:
            lines += _differences(one, two, f"{key}.")
        elif one != two or (type(one) is not type(two) and isinstance(one, bool)):
            lines.append(f"{prefix}{key}: {_said(one)} there, {_said(two)} here")
    return lines


def _said(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) < 60 else text[:57] + "…"


def record(folder: Path, sweep: Sweep, invocation: Mapping[str, Any]) -> None:
    """Write sweep.toml, and note this invocation; while no other writer of the run begins."""
    text = "# The grid of this run, with --set applied; paths are relative to this folder.\n"
    text += tomli_w.dumps(document_of(sweep, folder))
    kept = kept_grids(folder)
    grid = kept[0]
    if grid.exists():
        same = [one for one in kept if not _apart(one, folder, sweep)]
        last = int(kept[-1].stem.partition("-")[2] or 1)
        grid = same[0] if same else folder / f"sweep-{last + 1}.toml"
    # The same grid of an earlier call differs at most in what it probes.
    if not grid.exists() or tomllib.loads(grid.read_text(encoding="utf-8")) != tomllib.loads(text):
        write_text(grid, text)
    jobs = len(sweep.jobs if len(kept_grids(folder)) == 1 else load_run(folder).jobs)
    page = {"format": 1, "name": sweep.name, "jobs": jobs}
    page["invocations"] = [*_noted(folder / "provenance.json"), invocation]
    write_text(folder / "provenance.json", json.dumps(page, indent=1) + "\n")


def invocations(folder: Path) -> list[Any]:
    """Every invocation noted in a run, by time."""
    noted: list[Any] = []
    for path in folder.glob("provenance*.json"):  # in earlier versions a shard had its own
        noted += [one for one in _noted(path) if one not in noted]
    return sorted(noted, key=lambda one: str(one.get("time")))


def jobs_noted(folder: Path) -> int | None:
    """Return the number of jobs of a run's grid, as its provenance has it; None if it has not."""
    number = _page(folder / "provenance.json").get("jobs")
    return number if type(number) is int and number >= 0 else None


def shards_of(folder: Path) -> int | None:
    """Into how many shards a run was last divided; None if it never was."""
    for one in reversed(invocations(folder)):
        if "shard" in one:
            try:
                return Shard.parse(str(one["shard"])).count
            except UserError:
                return None
    return None


def _noted(path: Path) -> list[Any]:
    found = _page(path).get("invocations")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _page(path: Path) -> dict[str, Any]:
    # There is none before the first run; and a damaged one must not stop the second.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def machine() -> dict[str, Any]:
    """Versions, commit and machine, as of now."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tiltcli": tiltcli.__version__,
        "git_commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: version_of(name) for name in _LIBRARIES},
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def version_of(name: str) -> str | None:
    """Version of a library; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the source tree the tool runs from, if it runs from one."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        call = ["git", "-C", str(here.parent), *words]
        done = subprocess.run(call, capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(here))
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
