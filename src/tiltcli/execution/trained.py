"""Trained networks of a run: as it kept them, or trained again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import jobs_of
from tiltcli.data import dataset_of
from tiltcli.errors import Outcome, UserError
from tiltcli.evaluation.comparison import check_metric
from tiltcli.execution.reprobing import chosen_jobs, only_row
from tiltcli.execution.train_job import facts_of
from tiltcli.grid import Job
from tiltcli.networks.initial import is_own
from tiltcli.store.files import check_output, write_output
from tiltcli.store.read import find_run, read
from tiltcli.store.weights import METADATA, Facts, read_weights, weights_path, write_weights

if TYPE_CHECKING:
    from tiltcli.networks.classifier import Classifier

FORMATS = (".safetensors", ".pt2", ".onnx")


@dataclass(frozen=True)
class Trained:
    """A trained network."""

    classifier: Classifier  # it, ready to predict
    tensors: dict[str, npt.NDArray[Any]]  # its weights by name
    facts: Facts  # what they do not say
    row: pd.Series  # of the jobs table
    kept: bool  # whether the run had kept it; else it was trained again


def best_job(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the first row with the best value of a metric: of a loss the least."""
    check_metric(metric, rows, "--best")
    values = rows.loc[rows["outcome"] == Outcome.COMPLETED, metric].dropna()
    if values.empty:
        raise UserError(f"--best: no job that was completed has a {metric}")
    return rows.loc[[values.idxmin() if metric.endswith("loss") else values.idxmax()]]


def load_trained(
    run: str | Path,
    job: str | None = None,
    *,
    results: Path = Path("results"),
    where: tuple[str, ...] = (),
    best: str | None = None,
) -> Trained:
    """Return the trained network of one job: the best by a metric, or the only one left.

    Raises:
        UserError: if there is no such job, or its weights cannot be had.

    """
    from tiltcli.networks.classifier import Classifier, named_tensors, trained_network

    folder = find_run(run, results)
    rows = chosen_jobs(folder, where, job)
    rows = rows if best is None else best_job(rows, best)
    row = only_row(folder, rows, job, ", or --best a metric")
    path = weights_path(folder, row["job"])
    kept = path.exists()
    if kept:
        tensors, facts = read_weights(path)
        if facts.job != row["job"]:
            raise UserError(f"{path}: is of job {facts.job}")
        # A network of the user's own needs its file; another one nothing that the grid names.
        plain = Job(facts.job, facts.settings | {"model.init_file": None})
        one = jobs_of(folder, [facts.job])[0] if is_own(plain) else plain
    else:
        (one,) = jobs_of(folder, [row["job"]])
        metrics = read(folder, results).metrics
        stored = metrics[metrics["job"] == one.id]
        epoch, data = _epoch(one, row, stored), dataset_of(one)
        # To the end, so that all that is stored is checked, and by the engine that trained it.
        (snapshot,) = weights_at(one, data, [epoch], str(row["engine"]), stored=stored)
        tensors = named_tensors(one, data.sample_shape, data.classes, snapshot.theta)
        facts = facts_of(one, data, epoch)
    network = trained_network(one, facts.sample_shape, len(facts.labels), tensors)
    scale = None if facts.mean is None else (facts.mean, facts.spread)
    classifier = Classifier(network, facts.sample_shape, facts.labels, scale, facts.encoding)
    return Trained(classifier, tensors, facts, row, kept)


def _epoch(job: Job, row: pd.Series, stored: pd.DataFrame) -> int:
    """Epoch whose weights `train.keep` would keep; the last one where it keeps none."""
    if row["outcome"] == Outcome.DIVERGED:  # where it did, it has measures, but no weights
        stored = stored[stored["epoch"] < row["epochs"]]
    accuracies = stored["val_accuracy"].to_numpy()
    if job.get("train.keep") == "best" and np.isfinite(accuracies).any():
        return int(stored["epoch"].iloc[int(np.nanargmax(accuracies))])
    if row["outcome"] != Outcome.COMPLETED:
        raise UserError(f"job {job.id}: {row['error']}; there are no weights of its end")
    return int(row["epochs"])


def export_trained(run: str | Path, output: Path, **which: Any) -> tuple[Trained, str]:
    """Return the trained network of one job, written to a file, and what to know of the file.

    Raises:
        UserError: for another ending than `FORMATS`; for the rest, and which job, `load_trained`.

    """
    form = output.suffix.lower()
    if form not in FORMATS:
        raise UserError(
            f"--output: got {output}; allowed: a file that ends in {', '.join(FORMATS)}"
        )
    check_output(output)
    found = load_trained(run, **which)
    note = ""
    if form == ".safetensors":
        write_weights(output, found.tensors, found.facts)
    else:
        from tiltcli.networks.classifier import write_onnx, write_pt2

        def write(to: Path) -> None:
            nonlocal note
            # Torch tells formats by the ending, which a temporary name has not.
            with tempfile.TemporaryDirectory(dir=to.parent, prefix=".") as folder:
                made = Path(folder) / output.name
                write_as = write_onnx if form == ".onnx" else write_pt2
                note = write_as(made, found.classifier, METADATA, found.facts.page())
                made.replace(to)

        write_output(output, write)
    return found, note
