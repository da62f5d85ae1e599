"""What all tests share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _from_the_root(request, monkeypatch):
    """Tests name their data relative to the project's root."""
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def one_thread():
    """As in the workers; many small products only wait for each other's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
