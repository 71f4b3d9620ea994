"""Runs every golden file of the linear RNN operators; the beginning of its name chooses the handler."""

import os
from pathlib import Path

import pytest
import torch
from golden_vector import GoldenVector
from linear_rnn_ops_handlers import blocks, cells, scans

HANDLERS = scans.HANDLERS | cells.HANDLERS | blocks.HANDLERS
FOLDERS = os.environ.get("VISIONSEQ_GOLDEN", str(Path(__file__).parent)).split(os.pathsep)
FILES = sorted(path for folder in FOLDERS for path in Path(folder, "linear_rnn_ops").glob("*.safetensors"))


def test_there_are_vectors():
    assert FILES, f"no golden vectors in {FOLDERS}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_golden(path: Path):
    names = [name for name in HANDLERS if path.stem.startswith(name)]
    assert names, f"no handler fits {path.name}"
    vector = ReadVector(path)
    HANDLERS[max(names, key=len)](vector)
    assert not vector.unread, f"{path.name} holds {vector.unread}, which the handler does not compare"


class ReadVector(GoldenVector):
    """A golden file that knows which outputs nobody has asked for."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.unread = {key for key in self._tensors if key.startswith("out/")}

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        self.unread = {key for key in self.unread if not key.startswith(prefix)}
        return super().tensors(prefix)

    def __getitem__(self, key: str) -> torch.Tensor:
        self.unread.discard(key)
        return super().__getitem__(key)
