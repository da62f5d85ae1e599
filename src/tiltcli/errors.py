"""What every layer shares: the user's error, job outcomes, and the columns of the three tables."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO, TypeVar

FEW = 6
MOST_SAID = 4000
"""Characters of one message: beyond, nobody reads what a file made it repeat."""

_SHORT = re.compile(
    "failed to map segment|annot allocate memory|an't allocate memory|Unable to allocate"
    "|an't start new thread|launch worker thread"
)
_ENDLESS = re.compile(r"(\S{200})\S{100,}(\S{50})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

T = TypeVar("T")
R = TypeVar("R")


def harmless(text: str) -> str:
    """Text in one line, control characters spelled: no value moves a cursor or fakes a message."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came of, is of memory or threads that are not to be had."""
    # Libraries say it each in their own way, few by Python's own error.
    causes = [error]
    while (before := causes[-1].__cause__ or causes[-1].__context__) and before not in causes:
        causes.append(before)
    return any(isinstance(one, MemoryError) or _SHORT.search(str(one)) for one in causes)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with what the user gave."""

    message: str  # what is wrong and what is allowed, one sentence
    key: str | None = None  # dotted name of the setting concerned, if any
    line: int | None = None  # in the grid file, counted from 1, if known
    source: str | None = None  # file or option it was found in, if any

    def __str__(self) -> str:
        place = self.source or ""
        if self.line is not None:
            place = f"{place}:{self.line}" if place else f"line {self.line}"
        said = harmless(": ".join(part for part in (place, self.key, self.message) if part))
        said = _ENDLESS.sub(r"\1…\2", said)  # what is allowed comes after it
        return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}…"


class UserError(Exception):
    """Something that is the user's to mend; the only error shown without a traceback.

    Carries every fault found, so that a file is mended in one round.
    """

    def __init__(self, *faults: str | Fault) -> None:
        self.faults: tuple[Fault, ...] = tuple(
            Fault(fault) if isinstance(fault, str) else fault for fault in faults
        )
        super().__init__("\n".join(str(fault) for fault in self.faults))


class RunError(UserError):
    """The files or the machine are at fault, not a job: the run ends; what is finished is kept."""


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return the work's results on all items; `UserError` says the faults of all, each once."""
    done: list[R] = []
    faults: list[Fault] = []
    for item in items:
        try:
            done.append(work(item))
        except UserError as error:
            faults.extend(error.faults)
    if faults:
        raise UserError(*dict.fromkeys(faults))
    return done


RUN_COUNTS = ("name", "jobs", "done", "missing", "diverged", "failed", "seconds", "changed")
"""What runs are listed by."""


class Outcome(StrEnum):
    """How a job ended. Divergence is a result, not an error."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    FAILED = "failed"


@dataclass(frozen=True)
class Column:
    """A column of a table: Arrow type by name, unit ("1" if dimensionless) and meaning."""

    name: str
    type: str
    unit: str
    meaning: str


def columns_of(table: str) -> tuple[Column, ...]:
    """Read a table of columns: name, type, unit (– for none), meaning, which may go on indented."""
    lines = re.sub(r"\n +", " ", table.strip()).splitlines()
    rows = (re.split(" +", line, maxsplit=3) for line in lines)
    return tuple(Column(name, kind, unit.strip("–"), said) for name, kind, unit, said in rows)


_BALANCED = "mean over the classes of the fraction of their samples classified right, on the"

RESULT_COLUMNS = columns_of(f"""
parameters              int64   1     number of trainable parameters
train_samples           int64   1     number of training samples, P
labels                  string  –     names of the classes in order, a JSON list; null if very long
train_loss              float64 nat   final static loss on the training set
train_accuracy          float64 1     final fraction of training samples classified right
train_balanced_accuracy float64 1     final {_BALANCED} training set
val_loss                float64 nat   final static loss on the validation set
val_accuracy            float64 1     final fraction of validation samples classified right
val_balanced_accuracy   float64 1     final {_BALANCED} validation set
test_loss               float64 nat   final static loss on the test set
test_accuracy           float64 1     final fraction of test samples classified right
test_balanced_accuracy  float64 1     final {_BALANCED} test set
epochs                  int64   epoch epochs done; for a diverged job, the epoch it diverged at
seconds                 float64 s     wall time the job took
engine                  string  –     engine that trained it: fused or torch
""")

JOB_COLUMNS = columns_of("""
job     string – id: hash of the job's own resolved settings
outcome string – completed, diverged or failed
error   string – traceback of a failed job, or how a job diverged
""")

METRIC_COLUMNS = columns_of(f"""
job                     string  –     id of the job, as in the jobs table
epoch                   int64   epoch epoch; 0 is the state before any update
step                    int64   step  optimiser updates made so far
train_loss              float64 nat   static loss L on the training set
dynamical_loss          float64 nat   F: the loss weighted by this step's class weights
train_accuracy          float64 1     fraction of training samples classified right
train_balanced_accuracy float64 1     {_BALANCED} training set
val_loss                float64 nat   static loss on the validation set
val_accuracy            float64 1     fraction of validation samples classified right
val_balanced_accuracy   float64 1     {_BALANCED} validation set
lr                      float64 1     learning rate of the update that comes next
""")

RECALL_COLUMNS = columns_of("""
job    string  –     id of the job, as in the jobs table
epoch  int64   epoch logged epoch; of the test set the last
part   string  –     train, val or test
class  string  –     name of the class, as in labels of the jobs table
recall float64 1     fraction of the class's samples classified right
""")
"""A class without samples in a part has no rows there."""

QUANTITY_COLUMNS = {
    "hessian": columns_of("""
hessian_max             float64 nat largest eigenvalue of the Hessian of F(·, t)
hessian_second          float64 nat second largest eigenvalue of that Hessian
hessian_third           float64 nat third largest eigenvalue of that Hessian
hessian_min             float64 nat smallest eigenvalue of that Hessian
hessian_trace           float64 nat trace of that Hessian
hessian_trace_error     float64 nat standard error of the trace; 0 where it is exact
hessian_max_static      float64 nat largest eigenvalue of the static loss's Hessian
hessian_max_preconditioned float64 1   largest eigenvalue of P^(−1/2) (H + decay) P^(−1/2), H the
    Hessian of F(·, t), P Adam's preconditioner after the updates made, (1 − β₁^t)(√v̂ + ε), and the
    decay that adam adds to the gradient; null but for adam and adamw, and at step 0
batch_sharpness         float64 nat mean of gᵀ H g / |g|² over at most 32 batches of a seeded order,
    g and H the batch's gradient and Hessian; null with full batches
stability_bound         float64 nat value above which the optimiser is unstable at this learning
    rate: of hessian_max, with adam and adamw of hessian_max_preconditioned, with minibatches of
    batch_sharpness; null where theory has none
"""),
    "ntk": columns_of("""
ntk_max      float64 1 largest eigenvalue of the tangent kernel traced over the classes and divided
    by their number: K[x, x'] = (1/C) Σ_k Σ_p ∂z_k(x)/∂p ∂z_k(x')/∂p
ntk_max_full float64 1 largest eigenvalue of the full tangent kernel of all points and classes, not
    divided
ntk_points   int64   1 number of training points the tangent kernel is taken on
"""),
    "lyapunov": columns_of("""
lyapunov float64 1/step largest Lyapunov exponent of the training map over all updates made so far:
    mean of ln(|v'|/|v|), v' = (1 − η(H + decay)) v from a seeded start, with momentum of parameters
    and velocity together; null at step 0
"""),
    "alignment": columns_of("""
alignment list<float64> 1 of each class (of each group, where loss.groups = random): ⟨g, v⟩²/|g|², g
    the gradient of its samples' loss, v the unit eigenvector of hessian_max; NaN where g is 0
"""),
    "density": columns_of("""
density_nodes   list<float64> nat density of the eigenvalues of the Hessian of F(·, t) by stochastic
    Lanczos quadrature: nodes of each random vector, one after the other
density_weights list<float64> 1   share of the eigenvalues at each node; their sum is 1
density_vectors int64         1   random vectors, each with as many nodes
density_error   float64       1   largest standard error, over the vectors, of the share of
    eigenvalues up to any number
"""),
}
"""What `[probe] quantities` may name, and the columns that each fills."""

PROBE_COLUMNS = (
    *columns_of("""
job   string  –     id of the job, as in the jobs table
epoch int64   epoch epoch; 0 is the state before any update
step  int64   step  optimiser updates made so far
lr    float64 1     learning rate η of the update that comes next
"""),
    *(column for columns in QUANTITY_COLUMNS.values() for column in columns),
)
"""Null stands for what was not asked for, and for an eigenvalue that did not converge."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `word`, or None if nothing is close."""
    names = list(known)
    found = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if found:
        return found[0]
    # "witdh" is close to "model.width" only by its last part.
    tails = {name.rpartition(".")[2]: name for name in names}
    found = difflib.get_close_matches(word.rpartition(".")[2], tails, n=1, cutoff=0.6)
    return tails[found[0]] if found else None


def with_suggestion(
    problem: str, given: str, known: Iterable[str], *, says: str = "allowed", limit: int = 12
) -> str:
    """Return what is wrong with a name, and what would do: the nearest, and all if few."""
    names = list(known)
    close = nearest(given, names)
    hint = f"did you mean {close}?" if close else ""
    if close and len(names) > FEW:
        return f"{problem}; {hint}"
    allowed = f"{problem}; {says}: {listing(names, limit) or 'none'}"
    return f"{allowed}; {hint}" if hint else allowed


def listing(names: Sequence[object], limit: int = 12) -> str:
    """Join names for a message, cut where there are too many to read."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"


def unadorned() -> bool:
    """Whether the user wants text only, on a terminal too: NO_COLOR, --no-color or TERM=dumb."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def plain(stream: TextIO) -> bool:
    """Whether a stream gets text only: it is no terminal, or the user wants it so."""
    return unadorned() or not stream.isatty()
