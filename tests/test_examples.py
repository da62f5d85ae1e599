"""The examples run as they stand."""

import os
import re
import runpy
from pathlib import Path
from unittest import mock

import pytest


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize(
    ("name", "steps", "least"), [("plain_loop", 400, 0.8), ("lightning_module", 300, 0.4)]
)
def test_examples(tmp_path, monkeypatch, capsys, name, steps, least):
    path = Path(f"tests/examples/{name}.py").resolve()
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ):  # Lightning keeps its seed there
        runpy.run_path(str(path), run_name="__main__")
    found = re.search(r"(\d+) steps, training accuracy ([\d.]+)", capsys.readouterr().out)
    assert int(found[1]) == steps
    assert float(found[2]) >= least
