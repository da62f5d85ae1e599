"""What runs on the workers of a cluster, and what goes over the wire.

Functions are called by name, with JSON texts of names and settings; tables are sent as Arrow's own
bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import json
import os
import platform
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import tiltcli
from tiltcli.analysis.branches import Brancher, Settled
from tiltcli.data import dataset_of
from tiltcli.engines import Interrupted, load_engine
from tiltcli.engines.base import Block
from tiltcli.errors import Outcome, RunError
from tiltcli.execution.dask.connection import TOPIC
from tiltcli.execution.progress import Advance
from tiltcli.execution.train_job import Task, train_job
from tiltcli.grid import Job, ProbeSettings, factories
from tiltcli.grid.jobs import job_id
from tiltcli.grid.paths import digest_of
from tiltcli.store import Finished, writer_name
from tiltcli.store.parquet import METRICS
from tiltcli.store.provenance import version_of
from tiltcli.store.spool import table_of
from tiltcli.store.weights import checkpoint_path

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
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def pack_jobs(jobs: Sequence[Job]) -> dict[str, Any]:
    """Jobs as plain values; what they share is there once."""
    first = jobs[0].settings
    shared = {
        key: value
        for key, value in first.items()
        if all(key in job.settings and job.settings[key] == value for job in jobs)
        and all(type(job.settings[key]) is type(value) for job in jobs)
    }
    return {
        "shared": shared,
        "jobs": [
            {
                "id": job.id,
                "settings": {k: v for k, v in job.settings.items() if k not in shared},
                "files": dict(job.files),
            }
            for job in jobs
        ],
    }


def unpack_jobs(packed: Mapping[str, Any]) -> list[Job]:
    """Return jobs from plain values; each must come out as it went in."""
    jobs = [
        Job(one["id"], {**packed["shared"], **one["settings"]}, one["files"])
        for one in packed["jobs"]
    ]
    for job in jobs:
        if job_id(job.settings) != job.id:
            raise ValueError(f"job {job.id} has other settings here: {json.dumps(job.settings)}")
    return jobs


def table_bytes(table: pa.Table) -> bytes:
    """Return a table in Arrow's stream format."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


def blocks_of(sent: bytes) -> dict[str, list[Block]]:
    """Metrics by job, from the bytes of a metrics table."""
    found: dict[str, list[Block]] = {}
    for job, tables in tables_of(sent, METRICS).items():
        for table in tables:
            values = {name: table[name].to_numpy() for name in METRICS.names if name != "job"}
            found.setdefault(job, []).append(Block(**values, updates=0))
    return found


def tables_of(sent: bytes, schema: pa.Schema) -> dict[str, list[pa.Table]]:
    """Rows by job, from the bytes of a table."""
    with pa.ipc.open_stream(sent) as reader:
        table = reader.read_all().cast(schema)
    names = table["job"].to_pandas().to_numpy()
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1), len(names)]
    found: dict[str, list[pa.Table]] = {}
    for begin, end in itertools.pairwise(starts):
        if begin < end:
            found.setdefault(str(names[begin]), []).append(table[begin:end])
    return found


def unpack_probe(packed: Mapping[str, Any] | None) -> ProbeSettings | None:
    """Probe settings from plain values."""
    if packed is None:
        return None
    lists = {key: tuple(packed[key]) for key in ("quantities", "epochs")}
    return ProbeSettings(**{**packed, **lists})


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
