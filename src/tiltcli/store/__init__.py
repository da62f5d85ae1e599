"""Runs on disk: written whole, read back as frames."""

from tiltcli.store.parts import writer_name
from tiltcli.store.read import Tables, find_run, list_runs, read
from tiltcli.store.spool import Finished, MetricsSpool
from tiltcli.store.write import RunWriter

__all__ = [
    "Finished",
    "MetricsSpool",
    "RunWriter",
    "Tables",
    "find_run",
    "list_runs",
    "read",
    "writer_name",
]
