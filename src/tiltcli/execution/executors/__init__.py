"""Running tasks in parallel; knows nothing of training."""

from tiltcli.execution.executors.in_process import Immediate, run_in_process
from tiltcli.execution.executors.processes import run_processes
from tiltcli.execution.executors.protocol import RETRIES, Done, WorkerError, WorkerLost
from tiltcli.execution.executors.threads import run_threads

__all__ = [
    "RETRIES",
    "Done",
    "Immediate",
    "WorkerError",
    "WorkerLost",
    "run_in_process",
    "run_processes",
    "run_threads",
]
