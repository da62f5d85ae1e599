"""`tiltcli sweep --dry-run`: the jobs, the axes, and the time they would take.

`python -m tiltcli.cli.dry_run GRID…` says it of several grids, in short: `make` begins with it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.analysis.aliasing import Logged, aliasing
from tiltcli.data import dataset_of, downloads_of
from tiltcli.data.fetch import Published
from tiltcli.engines.base import steps_per_epoch
from tiltcli.engines.coverage import uncovered
from tiltcli.errors import harmless, listing
from tiltcli.execution.checks import RunOptions, at_once, check_run
from tiltcli.execution.estimates import Estimate, estimate
from tiltcli.execution.progress import clock
from tiltcli.execution.runner import Plan
from tiltcli.grid import Job, ProbeSettings, Sweep, load_sweep
from tiltcli.grid.settings import PATHS, SETTINGS, deciding
from tiltcli.store.read import read_jobs

if TYPE_CHECKING:
    from tiltcli.execution.dask import ClusterTrainer

SHOWN = 20


def show(
    sweep: Sweep, results: Path, options: RunOptions, trainer: ClusterTrainer | None = None
) -> None:
    """Print what a sweep would do, on this machine without a trainer; writes nothing."""
    folder = results / sweep.name
    engines = check_run(sweep, folder, options, trainer, fetch=False)
    plan = Plan(sweep, options, engines, {} if options.fresh else _outcomes(folder))
    share = f"; of the {len(plan.jobs)} in shard {options.shard}" if options.shard else ""
    lines = [
        f"{sweep.name}: {len(sweep.jobs)} jobs "
        f"({sweep.expanded} combinations, {sweep.duplicates} duplicates removed){share}, "
        f"{len(plan.jobs) - len(plan.todo)} already done"
    ]
    if (search := sweep.search) is not None:
        lines.append(f"  search: {search.trials} cells of each method in each row, drawn at random")
    lines += [f"  {key}: {listing(values)}" for key, values in sweep.axes.items()]
    counts = Counter(engines[job.id] for job in sweep.jobs)
    lines.append("  engine: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if downloads := dict.fromkeys(found for job in sweep.jobs for found in downloads_of(job)):
        lines += [f"  to be fetched first: {download.described}" for download in downloads]
        lines.append("  estimated time: unknown until the data are here")
    else:
        workers = at_once(options.workers) if trainer is None else 1
        expected = estimate(plan.todo, engines, workers, options.device, sweep.probe)
        if sweep.probe is not None:
            lines.append(_probes(sweep.probe, expected))
        lines += _kinds(expected, sweep)
        if note := aliasing(_logs(plan)):
            lines.append(f"  note: {note}")
        took = clock(expected.seconds)
        on = f"{workers} workers" if trainer is None else "one core such as this machine's"
        lines.append(f"  estimated time: {took} on {on} (measured just now)")
    varying = [key for key in sweep.axes if key != "train.seed"] + ["train.seed"]
    lines += [f"  {job.id}  {_describe(job, varying)}" for job in plan.jobs[:SHOWN]]
    if len(plan.jobs) > SHOWN:
        lines.append(f"  … and {len(plan.jobs) - SHOWN} more")
    print("\n".join(map(harmless, lines)))  # noqa: T201 - the command's output


def show_several(grids: Sequence[Path], results: Path) -> None:
    """Print what several sweeps would fetch and how long they would take; writes nothing."""
    options, workers, total = RunOptions(), at_once(None), 0.0
    downloads: dict[Published, str] = {}
    for path in grids:
        sweep = load_sweep(path)
        folder = results / sweep.name
        engines = check_run(sweep, folder, options, None, fetch=False)
        todo = Plan(sweep, options, engines, _outcomes(folder)).todo
        missing = {found: sweep.name for job in todo for found in downloads_of(job)}
        downloads |= missing
        took = "unknown until its data are here" if missing else "nothing to do"
        if todo and not missing:
            seconds = estimate(todo, engines, workers, options.device, sweep.probe).seconds
            total += seconds
            took = clock(seconds)
        sys.stdout.write(f"  {sweep.name:<24}{len(todo):>6} of {len(sweep.jobs)} jobs: {took}\n")
        sys.stdout.flush()
    said = "; ".join(f"{one.described} for {name}" for one, name in downloads.items())
    sys.stdout.write(
        f"data to be fetched: {said or 'none'}\n"
        f"training: about {clock(total)} on {workers} cores, as measured here just now"
        f"{'; not counting what is unknown' if downloads else ''}\n"
        "Ctrl-C stops it at any moment; the same command goes on from there.\n"
    )


def _outcomes(folder: Path) -> dict[str, str]:
    if not (folder / "jobs").is_dir():
        return {}
    jobs = read_jobs(folder, ["outcome"])
    return dict(zip(jobs["job"], jobs["outcome"], strict=True))


def _logs(plan: Plan) -> Iterator[Logged]:
    """How the tilted jobs' logs lie to their pulses."""
    for job in plan.jobs:
        if job["loss.kind"] == "dynamical" and job.get("loss.timing") != "noise":
            data = None if job["train.batch_size"] == "full" else dataset_of(job)
            updates = 1 if data is None else steps_per_epoch(job, len(data.train))
            pulse = int(job["loss.period"]) + int(job["loss.rest"])
            yield Logged(pulse, int(job["train.log_every"]), updates)


def _kinds(expected: Estimate, sweep: Sweep) -> list[str]:
    """Speed of every kind of job, as measured, and what sends jobs to torch."""
    costly = {*deciding("cost"), *PATHS}
    telling = [key for key in sweep.axes if key in costly or SETTINGS[key].argument]
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


if __name__ == "__main__":
    show_several([Path(word) for word in sys.argv[1:]], Path("results"))
