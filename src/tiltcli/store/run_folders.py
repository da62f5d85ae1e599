"""Runs as folders: what is known of them without judging anything; removing one, renaming one."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from tiltcli.errors import RUN_COUNTS, Outcome, UserError, harmless, with_suggestion
from tiltcli.grid import kept_grids, load_run
from tiltcli.grid.shards import Shard
from tiltcli.grid.sweep import NAME
from tiltcli.store.files import write_text
from tiltcli.store.locks import RunLock
from tiltcli.store.provenance import jobs_noted, shards_of
from tiltcli.store.read import list_runs, read_jobs

SHOWN = 5  # missing jobs


def all_facts(results: Path, sort: str = "name", *, whole: bool = False) -> list[dict[str, Any]]:
    """Return what is known of every run; sorted by name they rise, by all else they fall."""
    if sort not in RUN_COUNTS:
        raise UserError(with_suggestion(f"sort: got {sort}", sort, RUN_COUNTS))
    facts = [facts_of(results / name, whole=whole) for name in list_runs(results)]
    if sort != "name":
        facts.sort(key=lambda one: one[sort] if one[sort] is not None else -1, reverse=True)
    return facts


def _changed(folder: Path) -> str:
    """When a job was last added, UTC."""
    places = [path for path in (folder / "jobs", folder / "sweep.toml") if path.exists()]
    last = max(path.stat().st_mtime for path in places)
    return datetime.datetime.fromtimestamp(last, datetime.UTC).isoformat(timespec="seconds")


def facts_of(folder: Path, *, whole: bool = False) -> dict[str, Any]:
    """Return what is known of a run; `whole`: with its axes, and which jobs are missing."""
    jobs = read_jobs(folder, ["seconds", "error", "labels"])
    counts = jobs["outcome"].value_counts()
    total = jobs_noted(folder)
    failed = jobs[jobs["outcome"] == Outcome.FAILED]
    labels = [_labels(text) for text in jobs["labels"].dropna().unique()]
    facts = {
        "name": harmless(folder.resolve().name),
        "folder": str(folder),
        "jobs": total,
        "done": len(jobs),
        "missing": None if total is None else max(total - len(jobs), 0),
        "completed": int(counts.get(Outcome.COMPLETED, 0)),
        "diverged": int(counts.get(Outcome.DIVERGED, 0)),
        "failed": len(failed),
        "seconds": float(jobs["seconds"].sum()),
        "changed": _changed(folder),
        "axes": {},
        "labels": labels,
        "failures": dict(zip(failed["job"], failed["error"], strict=True)),
    }
    return {**facts, **_missing(folder, set(jobs["job"]))} if whole else facts


def _labels(text: Any) -> list[Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, list) else [str(text)]  # of a damaged table


def _missing(folder: Path, done: set[str]) -> dict[str, Any]:
    """Axes of a run's grid, and what of it is not done yet: how many jobs, of which shards."""
    try:
        sweep = load_run(folder)
    except UserError:
        return {}  # its data files have moved; the tables still stand
    missing = [job for job in sweep.jobs if job.id not in done]
    found: dict[str, Any] = {
        "axes": {key: list(values) for key, values in sweep.axes.items()},
        "jobs": len(sweep.jobs),
        "missing": len(missing),
        "missing_jobs": [
            {"job": job.id, **{key: job.get(key) for key in sweep.axes if key in job.settings}}
            for job in missing[:SHOWN]
        ],
    }
    if count := shards_of(folder):
        shards = [Shard(index, count) for index in range(1, count + 1)]
        left = {str(s): sum(job.id not in done for job in s.of(sweep.jobs)) for s in shards}
        found["missing_by_shard"] = {name: number for name, number in left.items() if number}
    return found


_NAMED = re.compile(r'^name = ".*"$', re.MULTILINE)


def remove_run(folder: Path) -> None:
    """Remove a run that no other process writes."""
    with _held(folder):
        # First out of sight, in one step: a kill leaves no half of a run.
        gone = folder.parent / f".{folder.name}~removed"
        if gone.exists():
            shutil.rmtree(gone)
        shutil.rmtree(folder.rename(gone))
    _forget_locks(folder)


def rename_run(folder: Path, name: str) -> Path:
    """Give a run that no other process writes a free name; return its new folder."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"new name: got {name[:80]!r}; allowed: letters, digits, . _ + and -, at most 100, the "
            "first a letter or digit"
        )
    target = folder.parent / name
    if target.exists():
        raise UserError(f"new name: {target} is there already")
    with _held(folder):
        # A grid that is swept again from the run's own file goes on in the run.
        for grid in kept_grids(folder):
            text = _NAMED.sub(f'name = "{name}"', grid.read_text(encoding="utf-8"), count=1)
            write_text(grid, text)
        folder.rename(target)
    _forget_locks(folder)
    return target


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link; name the folder that it leads to")
    lock = RunLock(folder)
    with lock.gate():
        lock.acquire()
        try:
            yield
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror or error}") from None
        finally:
            lock.release()


def _forget_locks(folder: Path) -> None:
    for path in folder.parent.glob(f".{escape(folder.name)}*.lock"):
        if path.name.removeprefix(f".{folder.name}")[0] in "~.":
            with suppress(OSError):
                path.unlink()
