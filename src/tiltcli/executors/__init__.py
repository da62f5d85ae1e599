"""Running tasks in parallel; knows nothing of training."""

from tiltcli.executors.base import RETRIES, Done, WorkerError, WorkerLost, cores
from tiltcli.executors.processes import run_processes
from tiltcli.executors.threads import run_threads

__all__ = [
    "RETRIES",
    "Done",
    "WorkerError",
    "WorkerLost",
    "cores",
    "run_processes",
    "run_threads",
]
