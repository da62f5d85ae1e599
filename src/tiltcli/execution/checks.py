"""How a sweep is run, and all that can be checked before it writes anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.curvature.memory import memory_faults
from tiltcli.data import Dataset, dataset_of, downloads_of
from tiltcli.engines import choose_engine
from tiltcli.engines.base import CHECKPOINT_SECONDS
from tiltcli.engines.coverage import without_derivative
from tiltcli.engines.machine import cores
from tiltcli.engines.torch.devices import check_device
from tiltcli.errors import Fault, UserError, each
from tiltcli.grid import Job, ProbeSettings, Sweep
from tiltcli.grid.jobs import texts
from tiltcli.grid.settings import deciding
from tiltcli.grid.shards import Shard
from tiltcli.networks.initial import check_network, is_own, parameter_shapes
from tiltcli.store import RunWriter

if TYPE_CHECKING:
    from tiltcli.execution.dask import ClusterTrainer

MOST_WORKERS = 4096


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run."""

    engine: str = "auto"  # auto, fused or torch
    # jobs trained at once; 0: one after the other, in this very process, for a debugger or a
    # profiler; None: one per core
    workers: int | None = None
    retry_failed: bool = False  # run failed jobs again too
    fail_fast: bool = False  # stop at the first failed job
    fresh: bool = False  # remove an earlier run of this name first
    extend: bool = False  # let a run that was made by another grid grow by this one's jobs
    shard: Shard | None = None  # which share of the jobs to train; None for all
    device: str = "auto"  # where torch trains: auto, cpu or cuda
    # time between two checkpoints of a job that torch trains
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def jobs_of(self, sweep: Sweep) -> Sequence[Job]:
        """Jobs of a sweep that are in the share to train."""
        return self.shard.of(sweep.jobs) if self.shard else sweep.jobs

    def check(self, cluster: bool) -> None:
        """Refuse options that do not go together, or with a cluster."""
        faults, here = worker_faults(self.workers), "is for this machine; with --cluster"
        if cluster and self.workers is not None:
            faults.append(Fault(f"{here} its workers are used", key="--workers"))
        if cluster and self.device != "auto":
            faults.append(Fault(f"{here} every worker has its own", key="--device"))
        if self.shard and self.fresh:
            said = "--fresh with --shard would remove what the other shards have done"
            faults.append(Fault(said))
        if self.extend and self.fresh:
            faults.append(Fault("--extend keeps a run, --fresh removes it: give one of them"))
        if not cluster:
            try:
                check_device(self.device)
            except UserError as error:
                faults += error.faults
        if faults:
            raise UserError(*faults)


def worker_faults(workers: int | None) -> list[Fault]:
    """What is wrong with a number of workers, if anything is."""
    if workers is None or (type(workers) is int and 0 <= workers <= MOST_WORKERS):
        return []
    allowed = f"a whole number from 0 (in this process) to {MOST_WORKERS}, or none: one per core"
    return [Fault(f"got {workers!r}; allowed: {allowed}", key="--workers")]


def at_once(workers: int | None) -> int:
    """How many jobs are trained at the same time."""
    return cores() if workers is None else max(workers, 1)


def check_run(
    sweep: Sweep,
    folder: Path,
    options: RunOptions,
    trainer: ClusterTrainer | None,
    *,
    fetch: bool = True,
) -> dict[str, str]:
    """Check a sweep as it would be run, writing nothing; return the engine of each job, by id."""
    options.check(trainer is not None)
    engines = check_jobs(sweep, options.engine, fetch=fetch)
    if trainer is not None:
        trainer.check(options.jobs_of(sweep), engines)
    RunWriter(folder, sweep, (), options.fresh, options.shard, options.extend).check()
    return engines


def check_jobs(sweep: Sweep, engine: str, *, fetch: bool = True) -> dict[str, str]:
    """Check data, networks and engines of all jobs; unless `fetch`, only data that are here."""
    seen: set[tuple[Any, ...]] = set()
    # Jobs that agree on these need be checked once.
    probed = deciding("probe") if sweep.probe is not None else ()
    alike = tuple(dict.fromkeys((*deciding("data"), *deciding("network"), *probed, "train.keep")))

    def check(job: Job) -> tuple[str, str]:
        chosen = choose_engine(engine, job)
        check_derivative(sweep.probe, job, chosen)
        # A user's network may not like a last batch of a single sample.
        key = (*texts(job, alike), str(is_own(job) and job["train.batch_size"]))
        if key not in seen:
            seen.add(key)
            if fetch or not downloads_of(job):
                _check_with_data(sweep.probe, job)
        return job.id, chosen

    return dict(each(check, sweep.jobs))


def _check_with_data(probe: ProbeSettings | None, job: Job) -> None:
    data = dataset_of(job)
    if job.get("train.keep") == "best" and data.val is None:
        said = 'got "best", and there is no validation part; allowed here: "none", "final"'
        raise UserError(Fault(said, key="train.keep"))
    if is_own(job):
        from tiltcli.networks.models import check_own

        check_own(job, data)
    else:
        check_network(job, data.sample_shape, data.classes)
    if probe is not None:
        check_probe(probe, job, data)


def check_derivative(
    settings: ProbeSettings | None,
    job: Job,
    engine: str,
    option: Callable[[str], str] = "probe.{}".format,
) -> None:
    """Refuse a Lyapunov exponent of a training whose map has no compiled derivative."""
    if settings is None or "lyapunov" not in settings.quantities:
        return
    if reason := without_derivative(job, engine):
        said = f'"lyapunov" multiplies the derivatives of the updates, not known of {reason}'
        raise UserError(Fault(said, key=option("quantities")))


def check_probe(
    settings: ProbeSettings,
    job: Job,
    data: Dataset,
    option: Callable[[str], str] = "probe.{}".format,
) -> None:
    """Refuse more tangent kernel points than there are, and probes larger than the memory."""
    samples, points = len(data.train), settings.ntk_points
    if points is not None and points > samples:
        said = f"got {points}; there are {samples} training points"
        raise UserError(Fault(said, key=option("ntk_points")))
    if is_own(job):
        import torch

        from tiltcli.networks.models import make_network

        own = make_network(job, data.sample_shape, data.classes, torch.float32)
        shapes = [tuple(p.shape) for p in own.parameters() if p.requires_grad]
    else:
        shapes = list(parameter_shapes(job, data.sample_shape, data.classes).values())
    if faults := memory_faults(job, samples, data.classes, shapes, settings, option):
        raise UserError(*faults)
