"""Weights of a job at chosen epochs, by training it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from tiltcli.data import Dataset
from tiltcli.engines import Context, Snapshot, load_engine
from tiltcli.engines.base import Block, Ending
from tiltcli.errors import UserError
from tiltcli.grid import Job


def weights_at(
    job: Job,
    data: Dataset,
    epochs: Sequence[int],
    engine: str,
    stop: Callable[[], bool] = lambda: False,
    stored: pd.DataFrame | None = None,
    device: str = "auto",
) -> list[Snapshot]:
    """Train a job again up to the last of `epochs` and return its weights on the way.

    Trainings are deterministic: with the same engine on the same machine these are the weights
    that the run had.

    Propagates `Interrupted` when `stop()` became true.

    Args:
        job: the job.
        data: its data.
        epochs: rising, from 0 to the job's last.
        engine: name of the engine that trained it, "fused" or "torch".
        stop: when it returns true, the training ends with `Interrupted`.
        stored: the job's rows of the metrics table, to check the training against; None for none.
        device: where torch trains it.

    Returns:
        a snapshot per epoch.

    Raises:
        UserError: if the training diverges before the last of `epochs`, or is not the one stored.

    """
    found: list[Snapshot] = []
    if not epochs:
        return found
    known = {} if stored is None else stored.set_index("epoch")["train_loss"].to_dict()
    if stored is None:
        # What is measured on the way does not change a training, and here nobody reads it.
        seldom = {**job.settings, "train.log_every": int(job["train.epochs"])}
        job = replace(job, settings=seldom)
    for event in load_engine(engine)(job, data, Context(stop, tuple(epochs), device)):
        if isinstance(event, Block) and known:
            for epoch, loss in zip(event.epoch.tolist(), event.train_loss.tolist(), strict=True):
                # A diverged one ends in NaN, which is not itself.
                if (held := known.get(epoch, loss)) != loss and not (held != held and loss != loss):
                    raise UserError(
                        f"job {job.id}: trained again it has train_loss = {loss} at epoch {epoch}, "
                        f"the run holds {held}: not the same training (another version or "
                        "machine?)"
                    )
        elif isinstance(event, Snapshot):
            found.append(event)
            if event.epoch == epochs[-1]:
                break
        elif isinstance(event, Ending):
            raise UserError(
                f"job {job.id} has no weights at epoch {epochs[len(found)]}: "
                f"{event.note or f'it ended at epoch {event.epoch}'}"
            )
    return found
