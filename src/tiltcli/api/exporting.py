"""`tiltcli export --to`: a run's jobs as runs of the trackers that people already look at."""

from __future__ import annotations

import importlib
import os
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tiltcli.errors import METRIC_COLUMNS, PROBE_COLUMNS, RESULT_COLUMNS, Outcome, UserError, hushed
from tiltcli.evaluation.selection import narrowed
from tiltcli.store.files import output_folder
from tiltcli.store.read import find_run, read
from tiltcli.store.weights import put

_FINAL = [one.name for one in RESULT_COLUMNS if one.type in ("float64", "int64")]
_ALONG = [
    *(one.name for one in METRIC_COLUMNS if one.type == "float64"),
    *(one.name for one in PROBE_COLUMNS if one.type == "float64" and one.name != "lr"),
]


@dataclass(frozen=True)
class Exported:
    """A job as trackers take it."""

    job: str  # its id
    outcome: str  # how it ended
    settings: dict[str, Any]  # its settings by their dotted names
    final: dict[str, float]  # its final numbers
    # (step, numbers) of each logged or probed epoch, by step
    along: list[tuple[int, dict[str, float]]]


def export_metrics(
    run: str | Path,
    to: str,
    *,
    output: Path | None = None,
    results: str | Path = "results",
    where: Sequence[str] = (),
    job: str | None = None,
) -> tuple[int, int, str]:
    """Write a run's jobs to a tracker: how many now, how many were there, and what shows them."""
    tracker = TRACKERS[to]
    for name in tracker.needs:
        try:
            importlib.import_module(name)
        except ImportError:
            raise UserError(
                f"--to {to}: needs {name}, which is not installed: "
                f"pip install 'tiltcli[{tracker.extra}]'"
            ) from None
    tables = narrowed(read(find_run(run, Path(results))), where, job)
    folder = output_folder(output if output is not None else Path(tracker.folder))
    found = tables.jobs["job"].tolist()
    # Without reports of the libraries to their makers.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with hushed():
        there = tracker.there(folder, tables.name)
        todo = [one for one in found if one not in there]
        tracker.write(folder, tables.name, _exported(tables, todo))
    return len(todo), len(found) - len(todo), tracker.shows.format(folder=folder)


def _exported(tables: Any, wanted: Sequence[str]) -> Iterator[Exported]:
    settings = [column for column in tables.jobs if "." in column]
    rows = tables.jobs.set_index("job")
    recalls = _recalls(tables)
    both = pd.concat([tables.metrics, tables.probes.drop(columns="lr", errors="ignore"), recalls])
    columns = [column for column in (*_ALONG, *recalls.columns[2:]) if column in both]
    # One row per step, whatever was measured at it.
    along = both[both["job"].isin(wanted)].groupby(["job", "step"])[columns].first()
    for job in wanted:
        row = rows.loc[job]
        steps = along.loc[job] if job in along.index.get_level_values(0) else along.iloc[:0]
        yield Exported(
            job,
            str(row["outcome"]),
            _known(row[settings]),
            _known(row[[column for column in _FINAL if column in row]]),
            [(int(step), _known(one)) for step, one in steps.iterrows()],
        )


def _recalls(tables: Any) -> pd.DataFrame:
    """Job, step, and a column recall/part/class for each, in letters that every tracker takes."""
    if tables.recall.empty:
        return pd.DataFrame(columns=["job", "step"])
    found: pd.DataFrame = tables.recall.astype({"job": str, "part": str, "class": str})
    found = found.merge(tables.metrics[["job", "epoch", "step"]], on=["job", "epoch"])
    labels = list(tables.recall["class"].cat.categories)
    plain = [re.sub(r"[^\w.-]", "_", label) for label in labels]
    own = [f"{i}_{one}" if plain.count(one) > 1 else one for i, one in enumerate(plain)]
    names = (
        "recall/" + found["part"] + "/" + found["class"].map(dict(zip(labels, own, strict=True)))
    )
    return found.pivot_table("recall", ["job", "step"], names.rename("name")).reset_index()


def _known(row: pd.Series[Any]) -> dict[str, Any]:
    """What a row holds, as Python's own numbers and texts."""
    return {
        str(name): value.item() if hasattr(value, "item") else value
        for name, value in row.items()
        if not pd.isna(value)
    }


def _in_tensorboard(folder: Path, run: str) -> set[str]:
    return {path.parent.name for path in (folder / run).glob("*/events.*")}


def _to_tensorboard(folder: Path, run: str, jobs: Iterator[Exported]) -> None:
    # Its SummaryWriter leaves the writing to a thread, for which it waits for ever on a full disk.
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c
    from tensorboardX.summary import hparams, scalar

    def record(**what: Any) -> bytes:
        data = Event(wall_time=time.time(), **what).SerializeToString()
        size = struct.pack("<Q", len(data))
        return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (size, data))

    for one in jobs:
        final = {f"final/{name}": value for name, value in one.final.items()}
        records = [record(file_version="brain.Event:2")]
        for summary in hparams({**one.settings, "outcome": one.outcome}, final):
            records.append(record(summary=summary))
        for step, values in [*one.along, (0, final)]:
            for name, value in values.items():
                records.append(record(step=step, summary=scalar(name, value)))
        path = folder / run / one.job / f"events.out.tfevents.{time.time():.0f}.tiltcli"
        put(path, b"".join(records))


def _mlflow(folder: Path, run: str) -> tuple[Any, str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    known = client.get_experiment_by_name(run)
    return client, known.experiment_id if known else client.create_experiment(run)


def _in_mlflow(folder: Path, run: str) -> set[str]:
    client, experiment = _mlflow(folder, run)
    ended = client.search_runs([experiment], "status != 'RUNNING'", max_results=50_000)
    return {one.data.tags.get("tiltcli.job", "") for one in ended}


def _to_mlflow(folder: Path, run: str, jobs: Iterator[Exported]) -> None:
    from mlflow.entities import Metric, Param

    client, experiment = _mlflow(folder, run)
    for one in jobs:
        tags = {"tiltcli.job": one.job, "outcome": one.outcome}
        at = client.create_run(experiment, run_name=one.job, tags=tags).info.run_id
        now = int(time.time() * 1000)
        numbers = [
            Metric(name, value, now, step)
            for step, values in one.along
            for name, value in values.items()
        ]
        numbers += [Metric(f"final_{name}", value, now, 0) for name, value in one.final.items()]
        settings = [Param(name, str(value)) for name, value in one.settings.items()]
        for i in range(0, len(settings), 100):  # as many as a call takes
            client.log_batch(at, params=settings[i : i + 100])
        for i in range(0, len(numbers), 1000):
            client.log_batch(at, metrics=numbers[i : i + 1000])
        client.set_terminated(at, "FAILED" if one.outcome == Outcome.FAILED else "FINISHED")


def _in_wandb(folder: Path, run: str) -> set[str]:
    return {path.name.rpartition("-")[2] for path in (folder / "wandb").glob("offline-run-*-*")}


def _to_wandb(folder: Path, run: str, jobs: Iterator[Exported]) -> None:
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    for one in jobs:
        to = wandb.init(
            project=run,
            id=one.job,
            name=one.job,
            config={**one.settings, "outcome": one.outcome},
            dir=str(folder),
            mode="offline",
            settings=settings,
        )
        for step, values in one.along:
            to.log(values, step=step)
        to.summary.update({f"final/{name}": value for name, value in one.final.items()})
        to.finish()


@dataclass(frozen=True)
class Tracker:
    """A tracker of experiments."""

    needs: tuple[str, ...]  # modules of its libraries
    extra: str  # extra of this package that brings them
    folder: str  # where it looks by itself
    shows: str  # command that shows what is in a folder
    there: Callable[[Path, str], set[str]]  # folder and run → jobs that are there already
    write: Callable[[Path, str, Iterator[Exported]], None]  # writes jobs


TRACKERS = {
    "tensorboard": Tracker(
        ("tensorboardX",),
        "tensorboard",
        "runs",
        "tensorboard --logdir {folder}",
        _in_tensorboard,
        _to_tensorboard,
    ),
    "mlflow": Tracker(
        ("mlflow", "sqlalchemy", "alembic"),
        "mlflow",
        ".",
        "mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
        _in_mlflow,
        _to_mlflow,
    ),
    "wandb-offline": Tracker(
        ("wandb",), "wandb", ".", "wandb sync {folder}/wandb/offline-run-*", _in_wandb, _to_wandb
    ),
}
