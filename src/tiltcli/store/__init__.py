"""Runs on disk: written whole, read back as frames."""

from tiltcli.store.read import Tables, find_run, list_runs, read
from tiltcli.store.write import Finished, MetricsSpool, RunWriter

__all__ = ["Finished", "MetricsSpool", "RunWriter", "Tables", "find_run", "list_runs", "read"]
