"""Ranges of inputs in processes of their own, so that a crash is a fault and not the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = str(Path(__file__).parents[1])
PIECE = 500


def fuzz_in_processes(target, count, template, first=0, piece=PIECE):
    """Try inputs `first` … `first + count`; a process that dies costs the rest of its piece."""
    total = {"tried": 0, "accepted": 0, "refused": 0, "faults": []}
    at = first
    while at < first + count:
        wanted = min(piece, first + count - at)
        words = [sys.executable, "-m", "fuzz.one", target, at, wanted, template]
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([TESTS, *sys.path])},
            timeout=3600,  # a wait without end, which takes no computing
            check=False,
        )
        at += wanted
        try:
            found = json.loads(done.stdout)
        except ValueError:
            reached = [line for line in done.stderr.splitlines() if line.startswith("at ")]
            number = int(reached[-1].split()[1]) if reached else at - wanted
            at = number + 1  # go on behind the one that killed it
            problem = f"process ended with {done.returncode}\n{done.stderr[-1500:]}"
            found = {"tried": number + 1 - (at - 1), "accepted": 0, "refused": 0}
            found["faults"] = [{"target": target, "number": number, "problem": problem}]
        for key in ("tried", "accepted", "refused"):
            total[key] += found[key]
        total["faults"] += found["faults"]
    return total
