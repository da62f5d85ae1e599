"""A job that takes too much memory among innocent ones, run by hand: python -m fuzz.memory [MIB …].

The sweep runs in a control group whose limit is MIB (1400 and 2000), which the kernel enforces by
killing whoever has most. The innocent jobs finish and equal those of an undisturbed run; the greedy
one is failed with a message that says memory, exit code 1; without a limit `--retry-failed`
finishes it. Needs root and a memory controller, of version 1 or 2.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

import tiltcli
from control_group import control_group
from fuzz.full_disk import check
from helpers import command, same_tables, write_grid

NETWORK = """
import torch
class Greedy(torch.nn.Linear):
    passes = 0
    def forward(self, x):
        self.passes += 1  # the client's own check makes a few
        if self.passes == 50:
            self.held = torch.ones(self.mebibytes << 18)
        return super().forward(x)
def make(sample_shape, classes, mebibytes):
    network = Greedy(sample_shape[0], classes)
    network.mebibytes = mebibytes
    return network
"""
TEXT = """
[data]
kind = "spiral"
[model]
kind = "python"
factory = "network.py:make"
[model.args]
mebibytes = [1, 2, 3, 8000, 4, 5]
[loss]
kind = "static"
[train]
epochs = 300
log_every = 100
seeds = 2
"""


def main(*limits):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "network.py").write_text(NETWORK)
        write_grid(folder, TEXT)
        tiltcli.sweep(folder / "grid.toml", results=folder / "whole")
        whole = tiltcli.read("grid", folder / "whole")
        for mebibytes in limits or (1400, 2000):
            run = folder / f"results{mebibytes}" / "grid"
            words = ["sweep", "grid.toml", "--results", run.parent, "--workers", "2"]
            with control_group(mebibytes) as within:
                tight = subprocess.run(
                    [*within, *command(*words)],
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            assert "Traceback" not in tight.stderr, tight.stderr
            print(f"{mebibytes} MiB: exit code {tight.returncode}: {tight.stderr.strip()}")
            assert tight.returncode == 1, tight.stderr
            there = check(run)
            jobs = tiltcli.read(run).jobs
            failed = jobs[jobs["outcome"] == "failed"]
            assert list(failed["model.args.mebibytes"]) == [8000, 8000], failed
            assert failed["error"].str.contains("memory").all(), failed["error"]
            drop = ["seconds", "engine", "error"]
            done, innocent = (
                table[table["model.args.mebibytes"] != 8000].drop(columns=drop).sort_values("job")
                for table in (jobs, whole.jobs)
            )
            assert len(done) == 10
            pd.testing.assert_frame_equal(
                done.reset_index(drop=True), innocent.reset_index(drop=True), check_dtype=False
            )
            again = subprocess.run(
                command(*words, "--retry-failed"), cwd=folder, capture_output=True, text=True
            )
            assert again.returncode == 0, again.stderr
            check(run, there)
            same_tables(tiltcli.read(run), whole)
            print(f"  --retry-failed: {again.stderr.strip()}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
