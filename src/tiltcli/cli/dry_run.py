"""`tiltcli sweep --dry-run`: the jobs, the axes, and the time they would take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tiltcli.cli.live import clock
from tiltcli.data import download_of
from tiltcli.engines.coverage import uncovered
from tiltcli.engines.machine import cores
from tiltcli.errors import listing
from tiltcli.execution.estimates import Estimate, estimate
from tiltcli.execution.runner import check
from tiltcli.grid import Job, ProbeSettings, Sweep
from tiltcli.grid.settings import cost_settings
from tiltcli.store.read import read_jobs

SHOWN = 20


def show(
    sweep: Sweep, results: Path, engine: str, workers: int | None, device: str = "auto"
) -> None:
    """Print what a sweep would do; writes nothing."""
    engines = check(sweep, engine, fetch=False)
    workers = workers or cores()
    folder = results / sweep.name
    done = set(read_jobs(folder)["job"]) if (folder / "jobs").is_dir() else set()
    todo = [job for job in sweep.jobs if job.id not in done]
    lines = [
        f"{sweep.name}: {len(sweep.jobs)} jobs "
        f"({sweep.expanded} combinations, {sweep.duplicates} duplicates removed), "
        f"{len(sweep.jobs) - len(todo)} already done"
    ]
    lines += [f"  {key}: {listing(values)}" for key, values in sweep.axes.items()]
    counts = Counter(engines[job.id] for job in sweep.jobs)
    lines.append("  engine: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if downloads := {found for job in sweep.jobs if (found := download_of(job))}:
        lines += [f"  to be fetched first: {download.described}" for download in downloads]
        lines.append("  estimated time: unknown until the data are here")
    else:
        expected = estimate(todo, engines, workers, device, sweep.probe)
        if sweep.probe is not None:
            lines.append(_probes(sweep.probe, expected))
        lines += _kinds(expected, sweep)
        took = clock(expected.seconds)
        lines.append(f"  estimated time: {took} on {workers} workers (measured just now)")
    varying = [key for key in sweep.axes if key != "train.seed"] + ["train.seed"]
    lines += [f"  {job.id}  {_describe(job, varying)}" for job in sweep.jobs[:SHOWN]]
    if len(sweep.jobs) > SHOWN:
        lines.append(f"  … and {len(sweep.jobs) - SHOWN} more")
    print("\n".join(lines))  # noqa: T201 - the command's output


def _kinds(expected: Estimate, sweep: Sweep) -> list[str]:
    """Speed of every kind of job, as measured, and what sends jobs to torch."""
    telling = [key for key in sweep.axes if key in cost_settings()]
    lines = []
    for kind in expected.kinds[:SHOWN]:
        reason = uncovered(kind.example) if kind.engine == "torch" else None
        why = f"  (the compiled kernel does not train {reason})" if reason else ""
        said = _describe(kind.example, telling) or "all jobs"
        lines.append(
            f"    {kind.engine:<5}  {kind.speed:>11,.0f} steps/s and core  {kind.jobs:>6} jobs  "
            f"{clock(kind.seconds):>10}  {said}{why}"
        )
    if len(expected.kinds) > SHOWN:
        lines.append(f"    … and {len(expected.kinds) - SHOWN} more kinds")
    return lines


def _probes(settings: ProbeSettings, expected: Estimate) -> str:
    what = f"  probes of {' and '.join(settings.quantities)}: {expected.probes:,}"
    if not expected.probes:
        return what
    each = expected.probe_seconds / expected.probes
    said = f"{1000 * each:.2g} ms" if each < 1 else f"{each:.1f} s"
    return f"{what}, {said} each, {clock(expected.probe_seconds)} on one core in all"


def _describe(job: Job, keys: list[str]) -> str:
    shown: dict[str, Any] = {key: job.get(key) for key in keys if job.get(key) is not None}
    return "  ".join(f"{key}={value}" for key, value in shown.items())
