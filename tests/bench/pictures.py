"""Myrtle5 on pictures: as the tool trains it, against one ordinary torch process.

The tool: one single-threaded process per core, each with a job of its own, run by the tool's own
`Training`, and so with its own convolutions. The ordinary process: the network from torch's
modules, in torch's default layout with as many threads as torch takes, one job after the other.
Both in batches of 512, momentum SGD, float32. Pictures a second, all processes together; start-up
is left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tiltcli.engines.machine import cores

WANTED = {8: (4, 2, 1.3), 28: (8, 3, 1.5), 32: (4, 2, 2)}
GOALS = {
    (side, width): goal
    for side, goals in WANTED.items()
    for width, goal in zip((4, 16, 64), goals, strict=True)
}
"""Side of the pictures and channels of the network: how many times as fast we want to be."""
BATCH, SAMPLES, CLASSES = 512, 2048, 10

JOB = """
[data]
kind = "digits"
[model]
kind = "myrtle5"
width = {width}
[loss]
amplitude = 3
period = 100
[train]
epochs = 1000000
batch_size = 512
momentum = 0.9
lr = 0.001
"""


def pictures(side):
    """Colour pictures at 32 × 32, as CIFAR-10's; smaller ones are grey."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(SAMPLES, 3 if side == 32 else 1, side, side)).astype(np.float32)
    return X, rng.integers(0, CLASSES, SAMPLES)


def tool(side, width):
    """Return a function that makes an update."""
    import torch

    from tiltcli.data import Dataset, Part
    from tiltcli.engines.torch.state import Training
    from tiltcli.grid import parse_sweep

    torch.set_num_threads(1)
    job = parse_sweep(JOB.format(width=width), name="bench", folder=Path()).jobs[0]
    labels = tuple(map(str, range(CLASSES)))
    data = Dataset(Part(*pictures(side)), None, None, CLASSES, labels)
    run = Training(job, data, torch.device("cpu"), lambda: False)
    return lambda: run.advance(logged=False)


def ordinary(side, width):
    """Return a function that makes an update."""
    import torch
    from torch import nn

    X, y = map(torch.from_numpy, pictures(side))

    def conv(channels):
        return nn.Conv2d(channels, width, 3, padding=1)

    pools = [nn.AvgPool2d(2)] * {8: 1, 28: 2, 32: 3}[side]
    network = nn.Sequential(
        *(conv(X.shape[1]), nn.ReLU(), conv(width), nn.ReLU(), nn.AvgPool2d(2)),
        *(conv(width), nn.ReLU(), nn.AvgPool2d(2), conv(width), nn.ReLU(), *pools),
        *(nn.Flatten(), nn.Linear(width, CLASSES)),
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    state = {"order": torch.randperm(SAMPLES), "at": 0}

    def update():
        if state["at"] == SAMPLES:
            state.update(order=torch.randperm(SAMPLES), at=0)
        rows = state["order"][state["at"] : state["at"] + BATCH]
        state["at"] += BATCH
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(X[rows]), y[rows])
        loss.backward()
        optimizer.step()

    return update


def serve(pipe: Connection, make, side, width):
    """Make updates for as long as asked; tell how many a second."""
    update = make(side, width)
    for _ in range(2):
        update()
    pipe.send("ready")
    while seconds := pipe.recv():
        count, started = 0, time.perf_counter()
        while (taken := time.perf_counter() - started) < seconds or count < 2:
            update()
            count += 1
        pipe.send(count / taken)


class Runners:
    """Processes that train one network each."""

    def __init__(self, make, count, side, width):
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(count):
            pipe, other = context.Pipe()
            process = context.Process(target=serve, args=(other, make, side, width), daemon=True)
            process.start()
            self.pipes.append(pipe)
            self.processes.append(process)
        for pipe in self.pipes:
            assert pipe.recv() == "ready"

    def rate(self, seconds):
        """Pictures a second, all together."""
        for pipe in self.pipes:
            pipe.send(seconds)
        return BATCH * sum(pipe.recv() for pipe in self.pipes)

    def close(self):
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()


def flops(side, width):
    """Arithmetic of one picture's products: forward, and both factors' gradients.

    The pictures themselves need no gradient.
    """
    channels = 3 if side == 32 else 1
    places = [side**2, side**2, side**2 // 4, side**2 // 16]
    layers = [18 * p * c * width for p, c in zip(places, [channels, *[width] * 3], strict=True)]
    return 3 * (sum(layers) + 2 * width * CLASSES) - layers[0]


def report(seconds, peak):
    """Print and return the rates, in turns: tool, ordinary, tool, ordinary; the best counts."""
    print(f"Myrtle5, pictures per second in batches of {BATCH}; peak {peak / 1e9:.0f} GFLOP/s")
    print(
        f"{'side':>4}{'width':>7}{'tool':>12}{'ordinary':>12}{'ratio':>9}{'goal':>7}{'of peak':>10}"
    )
    rows = []
    for side, width in GOALS:
        ours, other = Runners(tool, cores(), side, width), Runners(ordinary, 1, side, width)
        rates = [(ours.rate(seconds), other.rate(seconds)) for _ in range(3)]
        ours.close()
        other.close()
        fast, slow = (max(column) for column in zip(*rates, strict=True))
        fraction = fast * flops(side, width) / peak
        rows.append({"side": side, "width": width, "tool": fast, "ordinary": slow})
        rows[-1] |= {"goal": GOALS[side, width], "fraction": fraction}
        print(
            f"{side:>4}{width:>7}{fast:>12,.0f}{slow:>12,.0f}{fast / slow:>8.2f}×"
            f"{GOALS[side, width]:>6}×{fraction:>10.1%}",
            flush=True,
        )
    print()
    return rows


if __name__ == "__main__":
    from bench.__main__ import matmul_peak

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    report(parser.parse_args().seconds, matmul_peak("float32"))
