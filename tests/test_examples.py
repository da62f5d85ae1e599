"""The examples and the README's Python run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "steps", "least"), [("plain_loop", 400, 0.8), ("lightning_module", 300, 0.4)]
)
def test_examples(tmp_path, name, steps, least):
    done = run(Path(f"tests/examples/{name}.py").read_text(), tmp_path)
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) steps, training accuracy ([\d.]+)", done.stdout)
    assert int(found[1]) == steps
    assert float(found[2]) >= least
