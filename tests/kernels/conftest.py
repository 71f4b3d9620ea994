"""The contract's own modules are importable by their names; the environment does not choose a backend."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def no_chosen_backend(monkeypatch):
    monkeypatch.delenv("VISIONSEQ_BACKEND", raising=False)
