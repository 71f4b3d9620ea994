"""Runs every golden file of the lidar data pipeline; the beginning of a file's name chooses the handler."""

import importlib
import os
import pkgutil
from pathlib import Path

import lidar_data_handlers
import pytest
from golden_vector import ReadVector

HANDLERS = {}
for module in pkgutil.iter_modules(lidar_data_handlers.__path__):
    HANDLERS |= getattr(importlib.import_module(f"lidar_data_handlers.{module.name}"), "HANDLERS", {})
FOLDERS = os.environ.get("VISIONSEQ_GOLDEN", str(Path(__file__).parent)).split(os.pathsep)
FILES = sorted(path for folder in FOLDERS for path in Path(folder, "lidar_data").glob("*.safetensors"))


def test_there_are_vectors():
    assert FILES, f"no golden vectors in {FOLDERS}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_golden(path: Path):
    names = [name for name in HANDLERS if path.stem.startswith(name)]
    if not names:
        pytest.skip(f"no handler for the kind {path.stem}")
    vector = ReadVector(path)
    HANDLERS[max(names, key=len)](vector)
    assert not vector.unread, f"{path.name} holds {vector.unread}, which the handler does not compare"
