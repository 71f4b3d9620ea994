"""Where the recordings are that some vectors were made from; they belong to their data sets and are not in the tree."""

import os
from pathlib import Path

import pytest

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[4] / "shared" / "data" / "lidar"
FOLDER = Path(os.environ.get("VISIONSEQ_LIDAR_SAMPLES") or BESIDE_THE_CHECKOUT)


def sample(name: str) -> Path:
    """The file or folder of that name among the samples; skips the test where it is absent."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no {path}; VISIONSEQ_LIDAR_SAMPLES names the folder of the recordings")
    return path
