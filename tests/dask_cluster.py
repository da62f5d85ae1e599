"""A real Dask cluster of processes on this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ONE_PROCESS = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None,
                      protocol="tcp", host=sys.argv[1]) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextlib.contextmanager
def one_process(host="127.0.0.1", *, extra_env, within=()):
    """A scheduler and a worker in one process; gives the scheduler's address."""
    with subprocess.Popen(
        [*within, sys.executable, "-c", ONE_PROCESS, host],
        env={**os.environ, **extra_env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


class DaskCluster:
    """A scheduler and workers, each a process of its own; use as a context manager."""

    def __init__(self, folder, *, workers=2, threads=1, extra_env=None, within=()):
        self.folder = Path(folder)
        self.workers, self.threads = workers, threads
        self.within = list(within)
        self.env = {**os.environ, **(extra_env or {}), "PYTHONWARNINGS": "default"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self.crew = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop(self.crew)
        self.stop(self.scheduler)

    def start(self):
        self.start_scheduler()
        self.start_crew()

    def start_scheduler(self):
        self.scheduler = self._begin(
            "scheduler", "--host", "127.0.0.1", "--port", self.port, "--no-dashboard"
        )
        self._wait("scheduler", "Scheduler at")

    def start_crew(self):
        self.crew = self._begin(
            "worker",
            self.address,
            *("--nworkers", self.workers, "--nthreads", self.threads),
            *("--no-dashboard", "--local-directory", self.folder / "scratch"),
            within=self.within,
        )
        self._wait("worker", "Registered to", self.workers)

    def _begin(self, what, *words, within=()):
        words = [*within, sys.executable, "-m", "dask", what, *map(str, words)]
        with (self.folder / f"{what}.log").open("w") as log:
            return subprocess.Popen(
                words, stderr=log, stdout=log, env=self.env, start_new_session=True
            )

    def _wait(self, what, text, times=1):
        deadline = time.monotonic() + 60
        log = self.folder / f"{what}.log"
        while log.read_text().count(text) < times:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def stop(self, process, number=signal.SIGTERM):
        """End a process and what it has started."""
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def worker_pids(self):
        """Processes that train; their nannies are left out."""
        found = subprocess.run(
            ["pgrep", "-g", str(self.crew.pid), "-f", "spawn_main"],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(line) for line in found.stdout.split()]

    def wait_for_workers(self):
        """Wait until all workers are there; one that was killed is begun again by its nanny."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as asking:
            asking.wait_for_workers(self.workers, timeout=60)

    def wait_for_client(self):
        """Wait until a client is connected."""
        self._wait("scheduler", "Receive client connection")
