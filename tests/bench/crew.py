"""Workers held to one core each, given the same work at the same time."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace

from bench import peers


def serve(pipe, alone):
    """Worker: runs what it is told, held to one core's worth of threads unless it is alone."""
    if not alone:
        peers.one_core()
    while (order := pipe.recv()) is not None:
        work, case, steps = order
        pipe.send(work(case, steps))


class Crew:
    """Workers that are all given the same work at the same time; a single one has all cores."""

    def __init__(self, size):
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, size == 1), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def seconds(self, work, case, steps):
        """Seconds that `work(case, steps)` takes, each worker with a seed of its own."""
        for seed, pipe in enumerate(self.pipes):
            pipe.send((work, replace(case, seed=seed), steps))
        return max(pipe.recv() for pipe in self.pipes)

    def close(self):
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()
