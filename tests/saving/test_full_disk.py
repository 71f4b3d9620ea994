"""A disk that is full, a folder that cannot be written: one error with the path, and the earlier file stays."""

import errno
import re
import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from visionseq.errors import WriteError
from visionseq.files import atomic_path, atomic_write, is_leftover, remove_leftovers, write_json
from visionseq.saving.weights import write_safetensors
from visionseq.training.checkpoint_io import AtomicCheckpointIO
from visionseq.viz import save_png

LIMIT = 20_000  # bytes of a file, in place of a full disk
BIG = torch.arange(100_000.0)


@contextmanager
def file_size_limit():
    """No file of this process grows beyond LIMIT bytes: the system refuses the write, as it does on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def write_npz(path):
    with atomic_write(path) as file:
        np.savez(file, x=BIG.numpy())


def write_text(path):
    with atomic_write(path, "w") as file:
        file.write("x" * 100_000)


def write_picture(path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    save_png(Image.fromarray(noise), path)


WRITERS = {
    "checkpoint": lambda path: AtomicCheckpointIO().save_checkpoint({"w": BIG}, path),
    "safetensors": lambda path: write_safetensors(path, {"w": BIG}),
    "npz": write_npz,
    "text": write_text,
    "json": lambda path: write_json(path, list(range(20_000))),
    "picture": write_picture,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_write_that_the_disk_refuses_names_the_file_and_leaves_the_earlier_one(tmp_path, kind):
    path = tmp_path / "result"
    path.write_bytes(b"earlier")
    with file_size_limit(), pytest.raises(WriteError) as refused:
        WRITERS[kind](path)
    assert re.fullmatch(rf"{path} cannot be written: .*(File too large|os error 27).*", str(refused.value))
    assert kind == "safetensors" or refused.value.errno == errno.EFBIG
    assert path.read_bytes() == b"earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_that_cannot_be_made_is_named(tmp_path, kind):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"file/deeper/result cannot be written: Not a directory"):
        WRITERS[kind](tmp_path / "file" / "deeper" / "result")


def test_errors_that_do_not_concern_the_file_pass(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"source\.bin"), atomic_path(tmp_path / "result") as temporary:
        temporary.write_bytes((tmp_path / "elsewhere" / "source.bin").read_bytes())
    with pytest.raises(RuntimeError, match="a fault"), atomic_path(tmp_path / "result"):
        raise RuntimeError("a fault")
    with pytest.raises(TimeoutError), atomic_path(tmp_path / "result"):
        raise TimeoutError(errno.ETIMEDOUT, "the network")


def test_what_a_killed_writer_leaves_is_recognised_and_removed(tmp_path):
    with atomic_path(tmp_path / "result.npz") as temporary:
        temporary.write_bytes(b"whole")
    temporary.write_bytes(b"half")  # of a process that was killed in the context
    assert is_leftover(temporary)
    assert not is_leftover(tmp_path / "result.npz")
    remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.npz"]
