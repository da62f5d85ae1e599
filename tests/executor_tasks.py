"""Work for worker processes to import."""

import os
import signal
import time
from pathlib import Path


def square(task, stopped, report):
    report(task)
    return task * task


def die_on_three(task, stopped, report):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def hold(task, stopped, report):
    """Hold so many MiB for a moment."""
    held = bytearray(task << 20)
    time.sleep(0.2)
    return len(held) >> 20


def exit_once(task, stopped, report):
    """The first attempt ends the process; the second finds the mark that it left."""
    if not Path(task).exists():
        Path(task).touch()
        os._exit(7)
    return "survived"


def greedy(task, stopped, report):
    """Killed, as for memory, if another one runs in the same folder; in the middle of the work."""
    folder, name = Path(task).parent, f"{os.getpid()}.{Path(task).name}"
    (folder / name).touch()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        pids = {one.name.partition(".")[0] for one in folder.iterdir()}
        if sum(Path("/proc", pid).exists() for pid in pids) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
    return "enough"


def until_stopped(task, stopped, report):
    report(1)
    while not stopped():
        time.sleep(0.01)
    return "stopped"


def deaf(task, stopped, report):
    report(1)
    time.sleep(600)


def raising(task, stopped, report):
    raise ValueError(f"bad {task}")


def batch_dying_on_three(tasks, stopped, report):
    if 3 in tasks:
        os.kill(os.getpid(), signal.SIGKILL)
    return [(task, task * task) for task in tasks]
