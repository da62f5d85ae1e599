"""What every engine shares: blocks of metrics, the job's schedule and its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tiltcli.data import Dataset, Part
from tiltcli.errors import Outcome
from tiltcli.grid import Job
from tiltcli.schedule import Schedule, balance

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

CHECKPOINT_SECONDS = 60.0
"""What a killed job loses at most, but for one pass over the data at the moment of saving."""

EXPLODED = 1e6
"""A static loss above this has exploded: the job ends as diverged. Log C is where chance stands."""


@dataclass(frozen=True)
class Block:
    """Metrics of some logged epochs, one entry each (columns as in the metrics table).

    `updates` counts the optimiser updates made since the previous block, for the progress display.
    Where there is no validation part, its columns are NaN. `recall` is that of each class on the
    training and the validation part, NaN of a class without samples there; None unless
    `train.recall` asks for it.
    """

    epoch: Int64[np.ndarray, " rows"]
    step: Int64[np.ndarray, " rows"]
    train_loss: Float64[np.ndarray, " rows"]
    dynamical_loss: Float64[np.ndarray, " rows"]
    train_accuracy: Float64[np.ndarray, " rows"]
    train_balanced_accuracy: Float64[np.ndarray, " rows"]
    val_loss: Float64[np.ndarray, " rows"]
    val_accuracy: Float64[np.ndarray, " rows"]
    val_balanced_accuracy: Float64[np.ndarray, " rows"]
    lr: Float64[np.ndarray, " rows"]
    updates: int
    recall: Float64[np.ndarray, "rows 2 classes"] | None = None


@dataclass(frozen=True)
class Ending:
    """How a training ended; the last thing an engine yields."""

    outcome: Outcome  # completed or diverged
    epoch: int  # epochs done; for a diverged job the epoch it diverged at
    note: str  # how it diverged, else empty
    test_loss: float  # static loss on the test part at the end; NaN without one
    test_accuracy: float  # accuracy on the test part at the end; NaN without one
    test_balanced_accuracy: float  # likewise, the mean of the classes' recalls
    parameters: int  # number of trainable parameters
    seconds_before: float = 0.0  # time that earlier runs, interrupted and resumed, spent on the job
    unsaved: str = ""  # why the last checkpoint could not be saved, else empty
    # as `Block.recall`, of the test part
    test_recall: Float64[np.ndarray, " classes"] | None = None


@dataclass(frozen=True)
class Snapshot:
    """Weights at a probed epoch, before its update; the metrics of this state are finite."""

    epoch: int
    step: int  # optimiser updates made so far
    lr: float  # learning rate of the update that comes next
    gamma: Float64[np.ndarray, " groups"]  # weights Γ of that update, of classes or of groups
    # all parameters flat, float64, in the order of the network's parameters; for a perceptron W1
    # row by row, b1, W2 and so on
    theta: Float64[np.ndarray, " parameters"]
    # diagonal P of Adam's after the updates made, (1 − β₁ᵗ)(√v̂ + ε), shape of theta; None of other
    # optimisers and before the first update
    preconditioner: Float64[np.ndarray, " trained"] | None = None


@dataclass(frozen=True)
class Trail:
    """Updates made one after the other, whose derivatives can be multiplied.

    The next but one that a training yields may lie in the same memory.
    """

    # parameters before each in the kernel's layout and the training's dtype; where those of
    # `Snapshot` lie in it
    rows: Float[np.ndarray, "updates size"]
    places: Int64[np.ndarray, " parameters"]
    # ∂F/∂logits of each, classes by padded points, where inputs and classes are few; else none
    slopes: Float[np.ndarray, "some slopes"]
    gammas: Float64[np.ndarray, "updates groups"]  # weights Γ of each, as of a `Snapshot`
    rates: Float64[np.ndarray, " updates"]  # learning rate of each, float64

    @property
    def thetas(self) -> Float[np.ndarray, "updates parameters"]:
        """Parameters before each, as in `Snapshot`, in the training's dtype."""
        return self.rows[:, self.places]


class Interrupted(Exception):
    """Raised out of a training that was asked to stop."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Context:
    """What surrounds a training without changing its numbers."""

    stop: Callable[[], bool] = _never  # when it returns true, the training ends with `Interrupted`
    snapshots: Sequence[int] = ()  # epochs, rising, whose weights are to be yielded
    # "cpu", "cuda", or "auto" for CUDA where there is one; the fused kernel has only one
    device: str = "auto"
    # file to save a long training to and to resume it from; None for none
    checkpoint: Path | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS  # time between two saves
    trail: bool = False  # whether every update is to be yielded too; the fused kernel alone can


class Engine(Protocol):
    """The one signature of all engines."""

    def __call__(
        self, job: Job, data: Dataset, context: Context
    ) -> Iterator[Block | Snapshot | Trail | Ending]:
        """Train a job, yielding its metrics and snapshots as they come and at last its ending."""


def steps_per_epoch(job: Job, samples: int) -> int:
    """Optimiser updates in one pass over the training set."""
    size = job["train.batch_size"]
    return 1 if size == "full" else -(-samples // min(int(size), samples))


def total_steps(job: Job, samples: int) -> int:
    """Optimiser updates a job makes."""
    return int(job["train.epochs"]) * steps_per_epoch(job, samples)


def schedule_of(job: Job, classes: int, total_steps: int) -> Schedule | None:
    """Class weights of a job; None for the static loss."""
    if job["loss.kind"] == "static":
        return None
    settle = int(job["loss.settle"])
    order = str(job.get("loss.order") or "cyclic")
    timing = str(job.get("loss.timing") or "pulse")
    # Jobs that draw nothing share their course, whatever their seeds.
    seed = int(job["train.seed"]) if order == "random" or timing == "noise" else 0
    return Schedule(
        classes,
        float(job["loss.amplitude"]),
        int(job["loss.period"]),
        int(job["loss.rest"]),
        total_steps - settle if settle else None,
        str(job["loss.shape"]),
        order,
        str(job.get("loss.groups") or "class"),
        timing,
        int(job.get("loss.half_life") or 0),
        seed,
    )


def balance_of(job: Job, data: Dataset) -> tuple[float, ...]:
    """Constant weight of each group of the training part; none where classes are not balanced."""
    if job.get("loss.class_weight") != "balanced":
        return ()
    # Random groups are told apart by class, see `tiltcli.data.loading.dataset_of`.
    times = data.classes if job.get("loss.groups") == "random" else 1
    return tuple(np.tile(balance(data.train.y, data.classes), times).tolist())


def class_weights(
    schedule: Schedule | None,
    steps: Int64[np.ndarray, " steps"],
    classes: int,
    balance: Sequence[float] = (),
) -> Float64[np.ndarray, "steps {max(classes,len(balance))}"]:
    """Γ at `steps`, times each group's constant weight, (steps, groups); static: Γ = 1."""
    with np.errstate(over="ignore", invalid="ignore"):  # the job will diverge
        gammas = np.ones((len(steps), classes)) if schedule is None else schedule.gamma(steps)
        if len(balance):
            gammas = np.repeat(gammas, len(balance) // classes, axis=1) * np.array(balance)
        return gammas


def learning_rates(
    job: Job, steps: Int64[np.ndarray, " steps"], total_steps: int
) -> Float64[np.ndarray, " steps"]:
    """Learning rate of the update that each step makes, piecewise linear in the training done."""
    pairs = job.get("train.lr_schedule") or ()
    return rates_at(float(job["train.lr"]), pairs, steps, total_steps)


def rates_at(
    rate: float,
    pairs: Sequence[Sequence[float]],
    steps: Int64[np.ndarray, " steps"],
    total_steps: int,
) -> Float64[np.ndarray, " steps"]:
    """Learning rate at `steps`: `rate`, by the factors of (fraction, factor) pairs if there are."""
    if not pairs:
        return np.full(len(steps), rate)
    fractions, factors = np.array(pairs).T
    with np.errstate(over="ignore"):  # the job will diverge
        return np.asarray(rate * np.interp(steps / total_steps, fractions, factors))


class Scores(NamedTuple):
    """Accuracy; balanced accuracy, the mean recall of the classes that there are; and recalls."""

    plain: Float64[np.ndarray, "*rows"]
    balanced: Float64[np.ndarray, "*rows"]
    recall: Float64[np.ndarray, "*rows classes"]


def scores(right: Int64[np.ndarray, "*rows counts"], part: Part | None) -> Scores:
    """Return the scores of a part; NaN of what has no samples, and of recalls not counted.

    Args:
        right: samples that are classified right, of each class, shape (…, C); or their number,
            shape (…, 1), which is enough where all classes have as many samples: there the
            balanced accuracy is the accuracy, to the last bit.
        part: the samples, or None.

    """
    recall = np.full(right.shape, np.nan)
    if part is None:
        return Scores(recall[..., 0], recall[..., 0], recall)
    plain = np.asarray(right.sum(axis=-1) / len(part))
    if right.shape[-1] == 1:
        return Scores(plain, plain, recall)
    sizes, even = class_sizes(part.y, right.shape[-1])
    there = sizes > 0
    known = right[..., there] / sizes[there]
    recall[..., there] = known
    return Scores(plain, plain if even else np.asarray(known.mean(axis=-1)), recall)


def class_sizes(y: Int64[np.ndarray, " samples"], classes: int) -> tuple[Whole, bool]:
    """Return how many samples each class has, and whether all have as many."""
    sizes = np.bincount(y, minlength=classes)
    return sizes, bool((sizes == sizes[0]).all())


def adam_diagonal(squares: Any, first: float, second: float, epsilon: float) -> Any:
    """Diagonal P of a `Snapshot` from √v's squares v, β₁ᵗ and β₂ᵗ; of arrays or tensors."""
    return (1.0 - first) * ((squares / (1.0 - second)) ** 0.5 + epsilon)


def divergence_note(epoch: int, loss: float) -> str:
    """Say how a job diverged."""
    what = f"exceeded {EXPLODED:g}" if np.isfinite(loss) else "is not finite"
    return f"diverged at epoch {epoch}: the training loss {what} ({loss:g})"
