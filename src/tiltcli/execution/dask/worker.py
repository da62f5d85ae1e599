"""What runs on the workers of a cluster, and what goes over the wire.

Functions are called by name. Both sides are of one version, as the handshake makes sure: what they
send each other are the tool's own objects, of names, settings and numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import pickle
import platform
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiltcli
from tiltcli.analysis.branches import Brancher, Settled
from tiltcli.data import dataset_of
from tiltcli.engines import Interrupted, load_engine
from tiltcli.engines.base import Block
from tiltcli.errors import Outcome, RunError
from tiltcli.execution.dask.connection import TOPIC
from tiltcli.execution.progress import Advance
from tiltcli.execution.train_job import train_batch
from tiltcli.grid import factories
from tiltcli.grid.paths import digest_of
from tiltcli.store import Finished, writer_name
from tiltcli.store.provenance import version_of
from tiltcli.store.spool import table_of

LIBRARIES = ("numpy", "numba", "torch", "pyarrow", "distributed")
"""Their versions must be the same everywhere: the numbers, or the messages, depend on them."""

PROCESS = uuid.uuid4().hex
"""Name of this process: the same as long as it lives."""

NAME = writer_name(f"w-{socket.gethostname().partition('.')[0]}")
"""Beginning of the names of its files in folders that it shares."""

TELL_SECONDS = 0.5
_halted: set[str] = set()
_loading = threading.Lock()


def versions() -> dict[str, str]:
    """Versions of the tool, Python and the libraries that matter, as they are here."""
    found = {"tiltcli": f"{tiltcli.__version__} ({_source()})", "Python": platform.python_version()}
    found |= {name: version_of(name) or "none" for name in LIBRARIES}
    return found


@functools.lru_cache(maxsize=1)
def _source() -> str:
    """Digest of the tool's own code: two checkouts may both call themselves one version."""
    digest = hashlib.sha256()
    folder = Path(tiltcli.__file__).parent
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.txt")]):  # columns are a text
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


async def handshake(request: Mapping[str, Any], dask_worker: Any = None) -> dict[str, Any]:
    """Return who this is, and why it could not work for the client, if so.

    The request has `versions`, `files` (path → digest), `engines`, and `probe`: a file in the run's
    folder that is seen where the folder is shared; null if it does not matter.
    """
    nanny = getattr(dask_worker, "nanny", None)
    answer = await asyncio.to_thread(_answer, request)
    return {**answer, "nanny": str(nanny) if nanny else None}


def _answer(asked: Mapping[str, Any]) -> dict[str, Any]:
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
        "shared": asked["probe"] is not None and _writable(asked["probe"]),
    }


def halt(token: str) -> None:
    """End this client's batches as soon as may be."""
    _halted.add(token)


def train(request: bytes) -> dict[str, Any]:
    """Return what tasks of one engine, trained one after the other, come to.

    The request has a token and a name, under which progress is told; the process that it is meant
    for; the tasks; and whether the run's folder is shared: checkpoints and the metrics of long jobs
    are written there then.

    The reply has `process`; `seconds` of wall time; of each task its `results` (None if it was
    interrupted) and `amounts` (updates and probes made); and the `weights` of jobs, as bytes, that
    are not in the run's folder. Propagates `RunError` if a folder takes no more, or a file has
    changed.
    """
    token, name, process, tasks, shared = pickle.loads(request)
    if process != PROCESS:
        return {"process": PROCESS}  # meant for an earlier one at this address
    started = time.perf_counter()
    stopped, tell = _stopped(token), _teller(token, name)
    _load(tasks[0].engine)
    executor = _probers() if any(task.probe for task in tasks) else None
    amounts = [[0, 0] for _ in tasks]

    def report(told: tuple[int, Advance]) -> None:
        number, advance = told
        amounts[number] = [n + m for n, m in zip(amounts[number], advance, strict=True)]
        tell(number, advance)

    with tempfile.TemporaryDirectory(prefix="tiltcli-") as scratch:
        alone = {} if shared else {"spool": Path(scratch) / "metrics", "checkpoint": None}
        own = [replace(task, writer=NAME, **alone) for task in tasks]
        own[0].spool.mkdir(exist_ok=True)
        ended = train_batch(own, stopped, report, executor)
        results = [_result(one, shared) for one in ended] + [None] * (len(tasks) - len(ended))
        kept = Path(scratch).glob("weights/*.safetensors")
        weights = {path.stem: path.read_bytes() for path in kept}
    return {
        "process": PROCESS,
        "results": results,
        "amounts": amounts,
        "weights": weights,
        "seconds": time.perf_counter() - started,
    }


def _result(one: Finished | RunError | None, shared: bool) -> Finished | None:
    """Return a job that says where it failed; its rows in memory unless the files are shared."""
    host = socket.gethostname()
    if isinstance(one, RunError):
        raise RunError(f"on {host}: {one}")
    if one is not None and one.row["outcome"] == Outcome.FAILED:
        error = f"on {host}, process {os.getpid()}:\n{one.row['error']}"
        one = replace(one, row={**one.row, "error": error})
    if one is None or shared or not isinstance(one.metrics, Path):
        return one
    table = table_of("metrics", [one])
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "job"}
    return replace(one, metrics=[Block(**columns, updates=0)], recalls=[table_of("recall", [one])])


def settle(request: bytes) -> dict[str, Any]:
    """Return what a training, continued at some learning rates, comes to.

    The request has a token, the process that it is meant for, what `_brancher` takes, and the
    learning rates. The reply has `process`; `seconds` of wall time; `amounts`, empty ones;
    `settled`, one for each learning rate before it was interrupted.
    """
    token, process, start, rates = pickle.loads(request)
    if process != PROCESS:
        return {"process": PROCESS}
    began, stopped = time.perf_counter(), _stopped(token)
    brancher = _brancher(start)
    settled: list[Settled] = []
    with contextlib.suppress(Interrupted):
        for rate in rates:
            settled.append(brancher.at(rate, stopped))
    return {
        "process": PROCESS,
        "settled": settled,
        "amounts": [[]] * len(rates),
        "seconds": time.perf_counter() - began,
    }


@functools.lru_cache(maxsize=2)
def _brancher(start: bytes) -> Brancher:
    """Return what goes on with a job, of which, and how, `start` says."""
    job, how = pickle.loads(start)
    _load("fused")
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
