"""Running tasks in parallel; knows nothing of training."""

from tiltcli.execution.executors.processes import run_processes
from tiltcli.execution.executors.protocol import RETRIES, Done, WorkerError, WorkerLost
from tiltcli.execution.executors.threads import run_threads

__all__ = [
    "RETRIES",
    "Done",
    "WorkerError",
    "WorkerLost",
    "run_processes",
    "run_threads",
]
