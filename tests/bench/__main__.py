"""`make bench`: job-steps per second of the fused kernel and its peers, side by side.

All peers train the same jobs (the spiral's 300 points, full batch), one process per core, all
cores at once, but for the notebook's way: that is one process, as a notebook is, with whatever
threads its library starts. Seconds are processor time, of the notebook's way wall time. Compilation
is left out; of a peer's variants the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numba
import numpy as np

from bench import cluster, curvature, overhead, peers, perceptrons, pictures
from bench.crew import Crew
from tiltcli.engines.machine import cores
from tiltcli.engines.mlp import products
from tiltcli.store.provenance import machine

WIDTHS = [10, 30, 100, 300, 1000]
DTYPES = ["float32", "float64"]


def rate(crew, name, width, dtype, seconds):
    """Steps per second of all workers together, best variant, best of two."""
    best = 0.0
    case = peers.Case(width, dtype, 0)
    for work in peers.PEERS[name]:
        steps = 500
        while (taken := crew.seconds(work, case, steps)) < seconds / 4:
            steps = int(min(8.0, max(2.0, seconds / 2 / max(taken, 1e-9))) * steps)
        taken = min(taken, crew.seconds(work, case, steps))
        best = max(best, len(crew.pipes) * steps / taken)
    return best


def flops(width, points=300, inputs=2, classes=3):
    """Arithmetic of one step's matrix products: forward, and both factors' gradients."""
    forward = 2 * points * width * (inputs + classes)
    backward = 2 * points * width * (inputs + 2 * classes)
    return forward + backward


def matmul_peak(dtype):
    """FLOP/s of a large matrix product on all cores: the best of NumPy, torch and our own.

    Our own is among them because not every library uses this machine's widest vectors.
    """
    import torch

    size = 2048
    best = 0.0
    for a in (np.ones((size, size), dtype), torch.ones(size, size, dtype=getattr(torch, dtype))):
        for _ in range(6):
            started = time.process_time()
            a @ a
            best = max(best, cores() * 2 * size**3 / (time.process_time() - started))
    return max(best, own_product(dtype))


@numba.njit(nogil=True)
def multiply(out, a, b, none, times):
    n = a.shape[0]
    for _ in range(times):
        products.affine(out, a, b, none, 0, none[0], n, n, n, n, 1, n, n)


def own_product(dtype, size=192, times=400):
    """FLOP/s of the kernel's own product, one thread per core."""
    shapes = [(size, size)] * 3 + [(1,)]
    arrays = [[np.ones(shape, dtype) for shape in shapes] for _ in range(cores())]
    for *_, none in arrays:
        none[0] = 0
    multiply(*arrays[0], 1)
    best = 0.0
    with ThreadPoolExecutor(cores()) as pool:
        for _ in range(3):
            started = time.process_time()
            list(pool.map(lambda three: multiply(*three, times), arrays))
            taken = (time.process_time() - started) / cores()
            best = max(best, cores() * times * 2 * size**3 / taken)
    assert arrays[0][0][0, 0] == size
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--json", type=Path, help="file to write the figures to as well")
    options = parser.parse_args()
    names = list(peers.PEERS)
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("numba", "torch", "jax", "numpy"))
    print(
        f"{machine()['processor']}, {cores()} cores; Python {platform.python_version()}, {versions}"
    )
    print("job-steps per second, all cores together; × is fused against that peer\n")
    rows = []
    crew, notebook = Crew(cores()), Crew(1)
    for dtype in DTYPES:
        peak = matmul_peak(dtype)
        print(f"{dtype}: matrix-product peak {peak / 1e9:.0f} GFLOP/s")
        print(f"{'width':>6}" + "".join(f"{name:>24}" for name in names) + f"{'of peak':>10}")
        for width in options.widths:
            row = {"dtype": dtype, "width": width, "peak": peak}
            for name in names:
                who = notebook if name in peers.ALONE else crew
                row[name] = rate(who, name, width, dtype, options.seconds)
            row["fraction"] = row["fused"] * flops(width) / peak
            rows.append(row)
            cells = f"{row['fused']:>24,.0f}"
            for name in names[1:]:
                cells += f"{row[name]:>15,.0f} {row['fused'] / row[name]:>7.1f}×"
            print(f"{width:>6}{cells}{row['fraction']:>10.1%}", flush=True)
        print()
    crew.close()
    notebook.close()
    peaks = {dtype: matmul_peak(dtype) for dtype in DTYPES}
    family = perceptrons.report(widths=options.widths, peaks=peaks)
    probes = curvature.report(seconds=options.seconds)
    shown = pictures.report(options.seconds, matmul_peak("float32"))
    rest = {**overhead.report(), "cluster": cluster.report()}
    if options.json:
        parts = {
            "rates": rows,
            "perceptrons": family,
            "curvature": probes,
            "pictures": shown,
            "overhead": rest,
        }
        options.json.write_text(json.dumps(parts, indent=1))


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    main()
