"""What runs on the workers of a cluster; called by name, with JSON texts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltcli.analysis.branches import Brancher, Settled
from tiltcli.data import dataset_of
from tiltcli.engines import Interrupted, load_engine
from tiltcli.errors import Outcome, RunError
from tiltcli.execution.dask.connection import TOPIC
from tiltcli.execution.dask.wire import table_bytes, unpack_jobs, unpack_probe, versions
from tiltcli.execution.progress import Advance
from tiltcli.execution.train_job import Task, train_job
from tiltcli.grid import factories
from tiltcli.grid.paths import digest_of
from tiltcli.store import Finished, writer_name
from tiltcli.store.checkpoint_files import checkpoint_path
from tiltcli.store.spool import table_of

PROCESS = uuid.uuid4().hex
"""Name of this process: the same as long as it lives."""

NAME = writer_name(f"w-{socket.gethostname().partition('.')[0]}")
"""Beginning of the names of its files in folders that it shares."""

TELL_SECONDS = 0.5

_halted: set[str] = set()
_loading = threading.Lock()


async def handshake(request: str, dask_worker: Any = None) -> dict[str, Any]:
    """Return who this is, and why it could not work for the client, if so.

    The request has `versions`, `files` (path → digest), `engines`, and `probe`: a file in the run's
    folder that is seen where the folder is shared; null if it does not matter.
    """
    nanny = getattr(dask_worker, "nanny", None)
    answer = await asyncio.to_thread(_answer, request)
    return {**answer, "nanny": str(nanny) if nanny else None}


def _answer(request: str) -> dict[str, Any]:
    asked = json.loads(request)
    here = versions()
    mismatches = [
        f"{name} is {here[name]} there and {version} here"
        for name, version in asked["versions"].items()
        if here[name] != version
    ]
    for path, digest in asked["files"].items():
        try:
            # That of a factory is of a function in a file.
            found = factories.digest(path) if ":" in digest else digest_of(Path(path))
            if found != digest:
                mismatches.append(f"{path} has another content there")
        except OSError as error:
            mismatches.append(
                f"{path} cannot be read there ({error.strerror}); put it where all workers see it"
            )
    if not mismatches:
        for name in asked["engines"]:
            _load(name)
    return {
        "mismatch": "; ".join(mismatches) or None,
        "process": PROCESS,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "shared": asked["probe"] is not None and _writable(Path(asked["probe"])),
    }


def halt(token: str) -> None:
    """End this client's batches as soon as may be."""
    _halted.add(token)


def train_batch(request: str) -> dict[str, Any]:
    """Return what jobs, trained one after the other, come to.

    The request has `token` and `batch` (names for progress), `process` (that it is meant for),
    `jobs` (from `pack_jobs`), `engine`, `probes` (settings of each or null), `checkpoint_seconds`
    (null for no checkpoints), and `folder`: of the run, for checkpoints and the metrics of long
    jobs; null where it is not shared.

    The reply has `process`; `seconds` of wall time; per job its `rows` (of the jobs table, without
    the settings; None if it was interrupted), its `amounts` (updates and probes made), why it was
    `unsaved` (could not be checkpointed, else empty) and in which of the `files` of the run's
    folder its metrics are (None: among those sent back); and `metrics`, `recall` and `probes`,
    Arrow bytes.

    Raises:
        RunError: if a folder takes no more, or a file has changed.

    """
    asked = json.loads(request)
    reply: dict[str, Any] = {"process": PROCESS}
    if asked["process"] != PROCESS:
        return reply  # meant for an earlier one at this address
    started = time.perf_counter()
    stopped, tell = _stopped(asked["token"]), _teller(asked["token"], asked["batch"])
    jobs = unpack_jobs(asked["jobs"])
    engine, every = asked["engine"], [unpack_probe(probe) for probe in asked["probes"]]
    _load(engine)
    executor = _probers() if any(every) else None
    amounts = [[0, 0] for _ in jobs]
    finished: list[Finished | None] = []
    with tempfile.TemporaryDirectory(prefix="tiltcli-") as scratch:
        folder = None if asked["folder"] is None else Path(asked["folder"])
        spool = (Path(scratch) if folder is None else folder) / "metrics"
        spool.mkdir(exist_ok=True)

        def report(number: int, advance: Advance) -> None:
            amounts[number] = [n + m for n, m in zip(amounts[number], advance, strict=True)]
            tell(number, advance)

        for number, (job, probe) in enumerate(zip(jobs, every, strict=True)):
            if stopped():
                finished.append(None)
                continue
            keeping = asked["checkpoint_seconds"]
            kept = folder is not None and keeping is not None
            task = Task(
                *(job, engine, spool, NAME, probe),
                checkpoint=checkpoint_path(spool.parent, job.id) if kept else None,
                checkpoint_seconds=keeping or 0.0,
            )
            one = train_job(task, stopped, functools.partial(report, number), executor)
            if isinstance(one, RunError):
                raise RunError(f"on {socket.gethostname()}: {one}")
            if one is not None and one.row["outcome"] == Outcome.FAILED:
                where = f"on {socket.gethostname()}, process {os.getpid()}"
                one = replace(one, row={**one.row, "error": f"{where}:\n{one.row['error']}"})
            finished.append(one)
        ended = [one for one in finished if one is not None]
        reply["files"] = [None] * len(jobs)
        if folder is not None:
            reply["files"] = [one and _file_of(one) for one in finished]
        sent = [one for one in ended if folder is None or _file_of(one) is None]
        reply |= {name: table_bytes(table_of(name, sent)) for name in ("metrics", "recall")}
        reply["weights"] = {
            p.stem: p.read_bytes() for p in Path(scratch).glob("weights/*.safetensors")
        }
        reply["probes"] = table_bytes(table_of("probes", ended))
    settings = {key for job in jobs for key in job.settings}
    reply["rows"] = [
        None if one is None else {k: v for k, v in one.row.items() if k not in settings}
        for one in finished
    ]
    reply["unsaved"] = ["" if one is None else one.unsaved for one in finished]
    reply["amounts"] = amounts
    reply["seconds"] = time.perf_counter() - started
    return reply


def settle_batch(request: str) -> dict[str, Any]:
    """Return what a training, continued at some learning rates, comes to.

    The request has `token`, `process` (that it is meant for), `jobs` (of one, from `pack_jobs`),
    `start` (arguments of `Brancher`, the weights in hexadecimal) and `rates`. The reply has
    `process`; `seconds` of wall time; `amounts`, empty ones; `settled`, one for each learning rate
    before it was interrupted.
    """
    asked = json.loads(request)
    reply: dict[str, Any] = {"process": PROCESS}
    if asked["process"] != PROCESS:
        return reply
    began, stopped = time.perf_counter(), _stopped(asked["token"])
    brancher = _brancher(json.dumps(asked["jobs"]), json.dumps(asked["start"]))
    settled: list[Settled] = []
    with contextlib.suppress(Interrupted):
        for rate in asked["rates"]:
            settled.append(brancher.at(rate, stopped))
    return reply | {
        "settled": settled,
        "amounts": [[]] * len(asked["rates"]),
        "seconds": time.perf_counter() - began,
    }


@functools.lru_cache(maxsize=2)
def _brancher(packed: str, start: str) -> Brancher:
    (job,) = unpack_jobs(json.loads(packed))
    _load("fused")
    how = json.loads(start)
    how["theta"] = np.frombuffer(bytes.fromhex(how["theta"])).copy()
    return Brancher(job, dataset_of(job), **how)


def _load(engine: str) -> None:
    """Load and compile an engine before threads race to it; jobs have one thread each."""
    with _loading:
        load_engine(engine)
    if engine == "torch":
        import torch

        torch.set_num_threads(1)


@functools.lru_cache(maxsize=1)
def _probers() -> ThreadPoolExecutor:
    """As many threads for probes as the worker has for training, whatever jobs run."""
    from distributed import get_worker

    return ThreadPoolExecutor(get_worker().state.nthreads, thread_name_prefix="probe")


def _writable(probe: Path) -> bool:
    """Whether the folder of a file that the client made is here, and can be written to."""
    mine = probe.with_name(f".{PROCESS}.tmp")
    try:
        if not probe.is_file():
            return False
        mine.touch()
        mine.unlink()
    except OSError:
        return False
    return True


def _file_of(one: Finished) -> str | None:
    return one.metrics.name if isinstance(one.metrics, Path) else None


def _stopped(token: str) -> Callable[[], bool]:
    """Whether the client wants its batches ended, or has gone."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def stopped() -> bool:
        if token in _halted:
            return True
        # Released or taken back by its client, which may have been killed: nobody waits for it.
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return stopped


def _teller(token: str, batch: str) -> Callable[[int, Advance], None]:
    """Tell progress to the client, now and then; the rest comes with the reply."""
    from distributed import get_worker

    worker = get_worker()
    held: dict[int, Advance] = {}
    told = time.monotonic()

    def tell(number: int, advance: Advance) -> None:
        nonlocal told
        before = held.get(number, Advance(0))
        held[number] = Advance(before.updates + advance.updates, before.probes + advance.probes)
        if time.monotonic() - told < TELL_SECONDS:
            return
        told = time.monotonic()
        for which, amount in held.items():
            message = {"token": token, "batch": batch, "task": which, "amount": list(amount)}
            worker.log_event(TOPIC, message)
        held.clear()

    return tell
