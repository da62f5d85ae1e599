"""What goes over the wire: JSON texts of names and settings; and tables as Arrow's own bytes."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import tiltcli
from tiltcli.engines.base import Block
from tiltcli.grid import Job, ProbeSettings
from tiltcli.grid.jobs import job_id
from tiltcli.store.columns import METRICS
from tiltcli.store.provenance import version_of

LIBRARIES = ("numpy", "numba", "torch", "pyarrow", "distributed")
"""Their versions must be the same everywhere: the numbers, or the messages, depend on them."""


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
