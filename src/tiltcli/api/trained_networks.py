"""`tiltcli.load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiltcli.networks.classifier import Classifier


def load(
    run: str | Path,
    job: str | None = None,
    *,
    results: str | Path = "results",
    where: Sequence[str] = (),
    best: str | None = None,
) -> Classifier:
    """Return a trained network of a run, a `torch.nn.Module` in evaluation mode.

    It takes inputs as they are in the user's data: standardisation, one-hot columns and medians are
    inside. `predict` gives the classes of a pandas table's rows, or of an array's.

    Args:
        run: a name under `results`, or a path.
        job: id of the job, or its beginning; needed where the run has several.
        results: folder that runs are kept under.
        where: conditions that it must meet, such as `model.width == 30`.
        best: a metric; the job that is best by it.

    Returns:
        the network; where the run kept no weights (`train.keep`) it is trained again, and checked
        against the metrics that the run stored.

    Raises:
        UserError: if there is no such job, or its weights cannot be had.

    """  # noqa: DOC502 - by what it calls
    from tiltcli.execution.trained import load_trained

    found = load_trained(run, job, results=Path(results), where=tuple(where), best=best)
    return found.classifier
