"""The modules of this folder and of the readers' tests that tests import, and the detector that they share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "lidar"))
sys.path.insert(0, str(Path(__file__).parent))

from tiny_detector import tiny_detector


@pytest.fixture
def detector():
    return tiny_detector()
