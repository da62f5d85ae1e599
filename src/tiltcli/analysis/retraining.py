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
    """Return weights at `epochs`, rising, of a job trained again by the engine that trained it.

    Trainings are deterministic: on the same machine these are the weights that the run had; by
    `stored`, the job's rows of the metrics table, that is checked. Propagates `Interrupted`.

    Raises:
        UserError: if it diverges before the last of `epochs`, or is not the training stored.

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
