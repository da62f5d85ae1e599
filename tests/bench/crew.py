"""Workers held to one core each, given the same work at the same time."""

from __future__ import annotations

import multiprocessing

from bench import peers


def serve(pipe):
    """Worker: held to one core's worth of threads, runs what it is told."""
    peers.one_core()
    while (order := pipe.recv()) is not None:
        name, variant, case, steps = order
        pipe.send(peers.PEERS[name][variant](case, steps))


class Crew:
    """One worker per core, all given the same work at the same time."""

    def __init__(self, size):
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def seconds(self, name, variant, width, dtype, steps):
        for seed, pipe in enumerate(self.pipes):
            pipe.send((name, variant, peers.Case(width, dtype, seed), steps))
        return max(pipe.recv() for pipe in self.pipes)

    def close(self):
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()
