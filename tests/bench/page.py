"""How large the report's page is for many jobs, and how soon it opens: python -m bench.page [JOBS].

The jobs are made up (their numbers are noise around a smooth map); the run is a real one, written
by the store. What is measured is the page.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiltcli.engines.base import Block
from tiltcli.grid import parse_sweep
from tiltcli.reports import write_report
from tiltcli.store import Finished, RunWriter
from tiltcli.store.spool import setting_columns

WIDTHS = [10, 30, 100, 300, 1000]


@dataclass(frozen=True)
class Size:
    """Amplitudes × periods × seeds at five widths, plus static."""

    amplitudes: int
    periods: int
    seeds: int


def grid(size, log_every=20):
    """Text of a grid; 20 × 40 × 25 at five widths are 100 125 jobs."""
    return f"""
name = "many"
[data]
kind = "spiral"
[model]
width = {WIDTHS}
[loss]
kind = ["static", "dynamical"]
amplitude = {{ logspace = [1.5, 100, {size.amplitudes}] }}
period = {{ logspace = [5, 5000, {size.periods}] }}
[train]
epochs = 1000
seeds = {size.seeds}
log_every = {log_every}
"""


def make(folder, size, log_every=20):
    """Write a run of made-up results; return the number of jobs."""
    sweep = parse_sweep(grid(size, log_every), name="many", folder=Path(folder))
    epochs = np.arange(0, 1001, log_every)
    rng = np.random.default_rng(0)
    with RunWriter(Path(folder) / "results" / "many", sweep, ["bench"], False) as writer:
        for i, job in enumerate(sweep.jobs):
            row, curve = _made_up(job, epochs, rng)
            outcome = "failed" if i % 400 == 7 else "diverged" if i % 90 == 5 else "completed"
            if outcome != "completed":
                row = {k: v for k, v in row.items() if not k.endswith(("_accuracy", "_loss"))}
                row["error"] = (
                    f"Traceback (most recent call last):\n  made up\nValueError: no. {i % 7}"
                )
            loss = 1.1 * (1.01 - curve)
            scores = (curve, curve, loss, curve - 0.02, curve - 0.02)
            block = Block(epochs, epochs, loss, loss, *scores, loss * 0 + 1, 1000)
            named = {"job": job.id, "outcome": outcome, **setting_columns(job), **row}
            writer.add(Finished(named, [block], len(epochs)))
    return len(sweep.jobs)


def _made_up(job, epochs, rng):
    best = 0.4 + 0.2 * np.log10(job["model.width"])
    if job["loss.kind"] == "dynamical":
        best += 0.1 - 0.08 * abs(np.log10(job["loss.amplitude"]) - 1) ** 2
        best -= 0.03 * abs(np.log10(job["loss.period"]) - 2)
    level = float(np.clip(best + 0.03 * rng.standard_normal(), 0.05, 1))
    curve = level * (1 - 0.7 * np.exp(-epochs / 200))
    row = {"parameters": 6 * job["model.width"] + 3, "train_samples": 300, "epochs": 1000}
    row |= {"train_accuracy": level, "val_accuracy": level - 0.02, "test_accuracy": level - 0.02}
    row |= {"train_loss": 1.1 * (1.01 - level), "val_loss": 1.0, "test_loss": 1.0}
    return row | {"seconds": 0.5, "engine": "fused"}, curve


def opening_times(page, times=3):
    """Seconds until the page's scripts have run and its first figures are drawn, each in a new
    browser."""
    from browser import chromium

    found = []
    for _ in range(times):
        with chromium() as browser:
            before = time.perf_counter()
            browser.get(page.resolve().as_uri())
            browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
            found.append(time.perf_counter() - before)
    return found


def main():
    """Make, write, weigh and open."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seeds = max(1, round(wanted / (len(WIDTHS) * 20 * 40)))
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        jobs = make(folder, Size(20, 40, seeds))
        made = time.perf_counter()
        page = Path(folder) / "report.html"
        write_report(["many"], page, Path(folder) / "results")
        written = time.perf_counter()
        print(f"{jobs} jobs, made in {made - before:.1f} s; page written in {written - made:.1f} s")
        print(f"page: {page.stat().st_size / 1e6:.1f} MB")
        times = ", ".join(f"{seconds:.2f}" for seconds in opening_times(page))
        print(f"opened in {times} s")


if __name__ == "__main__":
    main()
