"""The tests' own modules of this folder, and the detector that they share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_detector import tiny_detector


@pytest.fixture
def detector():
    return tiny_detector()
