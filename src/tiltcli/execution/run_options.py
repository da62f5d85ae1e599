"""How a sweep is run: none of it changes a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiltcli.engines.base import CHECKPOINT_SECONDS
from tiltcli.engines.machine import cores
from tiltcli.engines.torch.devices import check_device
from tiltcli.errors import Fault, UserError
from tiltcli.grid import Job, Sweep
from tiltcli.grid.shards import Shard

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
        faults = worker_faults(self.workers)
        if cluster and self.workers is not None:
            said = "is for this machine; with --cluster its workers are used"
            faults.append(Fault(said, key="--workers"))
        if cluster and self.device != "auto":
            said = "is for this machine; with --cluster every worker has its own"
            faults.append(Fault(said, key="--device"))
        if self.shard and self.fresh:
            faults.append(
                Fault("--fresh with --shard would remove what the other shards have done")
            )
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
