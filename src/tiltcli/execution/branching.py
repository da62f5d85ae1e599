"""Branches: a training continued from one epoch at many learning rates."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiltcli.analysis.branches import Brancher, Settled
from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import jobs_of
from tiltcli.curvature.stability import stability_bound
from tiltcli.data import dataset_of
from tiltcli.engines import Interrupted
from tiltcli.errors import Fault, UserError
from tiltcli.execution.checks import at_once, worker_faults
from tiltcli.execution.reprobing import chosen_jobs, only_row
from tiltcli.grid import Job, load_run
from tiltcli.store import RunWriter
from tiltcli.store.branch_rows import Branch, add_rows, rates_done
from tiltcli.store.read import find_run, last_probed_epochs, read

if TYPE_CHECKING:
    from tiltcli.execution.dask import ClusterTrainer

COMMIT_SECONDS = 5.0
"""Work that a kill loses at most, but for the learning rates under way."""

MOST_POINTS, MOST_STEPS = 100_000, 10**8


@dataclass(frozen=True)
class Branched:
    """What `branch_run` did."""

    folder: Path  # of the run
    branch: Branch  # the branch
    flip: float  # learning rate at which its first weights become unstable; NaN without a bound
    rates: tuple[float, float]  # lowest and highest learning rate asked for
    added: int  # learning rates that are new
    before: int  # those that were there
    diverged: int  # of the new ones
    interrupted: bool  # whether it was stopped before the end
    notes: tuple[str, ...]  # what the user should know


def branch_run(
    run: str | Path,
    epoch: int,
    *,
    results: Path = Path("results"),
    job: str | None = None,
    rates: tuple[float, float] | None = None,
    points: int = 400,
    frozen: bool = False,
    steps: int = 5000,
    keep: int = 200,
    workers: int | None = None,
    trainer: ClusterTrainer | None = None,
    command: Sequence[str] = (),
    stop: threading.Event | None = None,
) -> Branched:
    """Return what was added to a branch: a training continued from an epoch at many learning rates.

    `rates` are the lowest and the highest of `points` evenly spaced ones; default: half and twice
    the one at which those weights become unstable. With `frozen` Γ stays as it is at that epoch. Of
    the `steps` updates at each, the losses of the last `keep` are kept. What is there is not made
    again; other arguments are as of `probe_run`.

    Raises:
        UserError: for what cannot be branched, with every fault; if the training does not repeat.

    """
    stop = stop if stop is not None else threading.Event()
    _check(rates, points, steps, keep, workers)
    folder = find_run(run, results)
    row, one = _chosen(folder, job, epoch)
    if trainer is not None:
        if workers is not None:
            raise UserError("--workers: of no use with --cluster, whose workers make the branch")
        trainer.check([one], {one.id: "fused"})
    branch = Branch(one.id, epoch, frozen, steps, keep)
    data = dataset_of(one)
    metrics = read(folder, results).metrics
    stored = metrics[metrics["job"] == one.id]
    with RunWriter(folder, load_run(folder), command) as writer:
        none = Branched(folder, branch, np.nan, rates or (np.nan, np.nan), 0, 0, 0, True, ())
        try:
            (start,) = weights_at(one, data, [epoch], str(row["engine"]), stop.is_set, stored)
        except Interrupted:
            return none
        how: dict[str, Any] = {"frozen": frozen, "steps": steps, "keep": keep}
        how |= {"step": start.step, "theta": start.theta}
        brancher = Brancher(one, data, **how)
        flip, bound = np.nan, stability_bound(one.settings)
        if bound is not None and bound.column == "hessian_max":
            flip = bound.rate_of(brancher.sharpness)
        if rates is None:
            if np.isnan(flip):
                raise UserError("--lr: missing, as theory has no bound here to centre it on")
            rates = flip / 2, 2 * flip
        wanted = np.linspace(*rates, points).tolist()
        done = rates_done(folder, branch)
        left = [rate for rate in wanted if rate not in done]
        added = diverged = 0
        ready: list[Settled] = []
        since = time.monotonic()
        if trainer is None:
            settled = _settled(brancher, left, at_once(workers or None), stop)
        else:
            settled = trainer.settled(one, how, left, writer, stop.is_set)
        with closing(settled):
            try:
                for each in settled:
                    ready.append(each)
                    added += 1
                    diverged += bool(np.isnan(each.losses[-1]))
                    if time.monotonic() - since > COMMIT_SECONDS:
                        add_rows(folder, branch, _rows(brancher, ready))
                        ready, since = [], time.monotonic()
            finally:
                if ready:
                    add_rows(folder, branch, _rows(brancher, ready))
        notes = tuple(writer.notes)
    before, short = points - len(left), added < len(left)
    return Branched(folder, branch, flip, rates, added, before, diverged, short, notes)


def _check(
    rates: tuple[float, float] | None, points: int, steps: int, keep: int, workers: int | None
) -> None:
    bounds = {
        "--points": (points, 2, MOST_POINTS),
        "--steps": (steps, 2, MOST_STEPS),
        "--keep": (keep, 1, min(max(steps, 1), 100_000)),
    }
    faults = worker_faults(workers)
    faults += [
        Fault(f"got {value}; allowed: a whole number from {least} to {most}", key=key)
        for key, (value, least, most) in bounds.items()
        if not least <= value <= most
    ]
    if rates is not None and not 0 < rates[0] < rates[1] < np.inf:
        got = f"{rates[0]:g}..{rates[1]:g}"
        faults.append(Fault(f"got {got}; allowed: LO..HI, two rising numbers > 0", key="--lr"))
    if faults:
        raise UserError(*faults)


def _chosen(folder: Path, job: str | None, epoch: int) -> tuple[pd.Series, Job]:
    rows = chosen_jobs(folder, (), job)
    row = only_row(folder, rows, job)
    (one,) = jobs_of(folder, [row["job"]])
    faults = []
    if row["engine"] != "fused":
        faults.append(
            f"job {one.id} was trained by {row['engine']}; branches are made by the compiled "
            "kernel, of perceptrons (model.kind = mlp)"
        )
    if one["train.batch_size"] != "full":
        faults.append(
            f"job {one.id} has train.batch_size = {one['train.batch_size']}; a branch needs a map "
            'that every step repeats: train.batch_size = "full"'
        )
    last = last_probed_epochs(rows)[one.id]
    if not 0 <= epoch <= last:
        faults.append(f"--epoch: got {epoch}; allowed: 0 to {last}, where job {one.id} ends")
    if faults:
        raise UserError(*faults)
    return row, one


def _settled(
    brancher: Brancher, rates: Sequence[float], workers: int, stop: threading.Event
) -> Generator[Settled]:
    """Go on at learning rates on this machine; yield each as it is done."""
    with ThreadPoolExecutor(workers, "branch") as pool:
        futures = [pool.submit(brancher.at, rate, stop.is_set) for rate in rates]
        try:
            for future in as_completed(futures):
                with suppress(Interrupted):
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _rows(brancher: Brancher, group: Sequence[Settled]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for one in group:
        begin = {"step": brancher.step, "loss": brancher.loss, "sharpness": brancher.sharpness}
        rows.append({"lr": one.lr} | begin)
        for at, loss, height in zip(one.steps, one.losses, one.sharpness, strict=True):
            rows.append({"lr": one.lr, "step": int(at), "loss": loss, "sharpness": height})
        rows[-1]["lyapunov"] = one.lyapunov
    return rows
