"""Runs every golden file of the kernels; the beginning of a file's name chooses the handler, its metadata the rest."""

import importlib
import os
from pathlib import Path

import pytest
from golden_vector import GoldenVector

HANDLERS = {}
for module in sorted((Path(__file__).parent / "kernels_handlers").glob("[a-z]*.py")):
    HANDLERS |= getattr(importlib.import_module(f"kernels_handlers.{module.stem}"), "HANDLERS", {})
FOLDERS = os.environ.get("VISIONSEQ_GOLDEN", str(Path(__file__).parent)).split(os.pathsep)
FILES = sorted(path for folder in FOLDERS for path in Path(folder, "kernels").glob("*.safetensors"))


def test_there_are_vectors():
    assert FILES, f"no golden vectors in {FOLDERS}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_golden(path: Path):
    names = [name for name in HANDLERS if path.stem.startswith(name)]
    assert names, f"no handler fits {path.name}"
    HANDLERS[max(names, key=len)](GoldenVector(path))
