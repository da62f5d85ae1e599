"""What all tests share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _from_the_root(request, monkeypatch):
    """Tests name their data relative to the project's root."""
    monkeypatch.chdir(request.config.rootpath)
