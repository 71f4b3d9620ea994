"""Every reader of the package, on mutated files and on bombs: the answer is data or one of our errors, soon, in little
memory.

Each format runs in a child process with an address space of 1 GB beyond what it starts with, and with a clock.
"""

import io
import os
import resource
import signal
import traceback
from pathlib import Path

import image_formats
import lidar_formats
import numpy as np
import pytest
import torch
from PIL import Image

from visionseq.data.decode import MAX_PIXELS, decode_image
from visionseq.errors import DataError, VisionseqError

MEMORY = 1 << 30
SECONDS = 60  # for one file; a healthy reader needs milliseconds
FORMATS = image_formats.FORMATS | lidar_formats.FORMATS
BOMBS = image_formats.BOMBS | lidar_formats.BOMBS

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory limit needs Linux")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three random changes, more often in the first hundred bytes, where headers are, and the last."""
    for _ in range(rng.integers(1, 4)):
        size = len(data)
        edge = int(rng.integers(0, min(size, 100) + 1))
        start = [int(rng.integers(0, max(size, 1))), edge, size - edge][rng.integers(3)]
        stop = min(size, start + int(rng.integers(1, 9) if rng.random() < 0.7 else rng.integers(1, size + 2)))
        other = int(rng.integers(0, max(size, 1)))
        noise = rng.integers(0, 256, max(stop - start, 1), dtype=np.uint8).tobytes()
        part = np.frombuffer(data[start:stop], np.uint8)
        replacement = [
            (part ^ (1 << rng.integers(0, 8, len(part))).astype(np.uint8)).tobytes(),  # flip a bit in each byte
            noise,  # overwrite
            noise + data[start:stop],  # insert
            b"",  # cut out
            data[other : other + stop - start],  # splice from elsewhere
            b"\xff" * (stop - start),  # the largest numbers
            bytes(stop - start),
        ]
        kind = int(rng.integers(8))
        data = data[:start] if kind == 7 else data[:start] + replacement[kind] + data[stop:]
    return data


def run(name: str, count: int, folder: Path) -> None:
    """Read `count` mutations of a healthy file; raises where one gets another answer than data or our errors."""
    form = FORMATS[name]
    path = form.make(folder)
    whole = path.read_bytes()
    form.read(path)
    rng = np.random.default_rng(count)
    refused = 0
    for number in range(count):
        path.write_bytes(mutated(whole, rng))
        signal.alarm(SECONDS)
        try:
            form.read(path)
        except VisionseqError as error:
            refused += str(folder) in str(error) or pytest.fail(f"the message names no file: {error}")
        except BaseException as error:
            raise AssertionError(f"mutation {number} of {name} raised {type(error).__name__}") from error
    signal.alarm(0)
    assert refused >= count * form.noticed, f"only {refused} of {count} mutations were noticed"


def explode(name: str, folder: Path) -> None:
    make, read = BOMBS[name]
    path = make(folder)
    signal.alarm(SECONDS)
    with pytest.raises(DataError) as caught:
        read(path)
    signal.alarm(0)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 1000


def in_a_child(folder: Path, task) -> str:
    """Run `task` in a child with little memory; returns what went wrong there."""
    report = folder / "report.txt"
    report.write_text("the child died (a crash, a hang or the kernel)")
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            task()
            report.write_text("")
        except BaseException:
            report.write_text(traceback.format_exc())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return report.read_text()


COUNTS = [(name, form.quick) for name, form in FORMATS.items()]
SLOW_COUNTS = [pytest.param(name, form.many, marks=pytest.mark.slow) for name, form in FORMATS.items()]


@needs_proc
@pytest.mark.parametrize(("name", "count"), [*COUNTS, *SLOW_COUNTS])
def test_mutations(name, count, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    assert in_a_child(tmp_path, lambda: run(name, count, folder)) == ""


@needs_proc
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    assert in_a_child(tmp_path, lambda: explode(name, folder)) == ""


def test_the_limits_of_the_child_bite(tmp_path):
    assert "MemoryError" in in_a_child(tmp_path, lambda: bytearray(2 * MEMORY))
    assert "not an image" in in_a_child(tmp_path, lambda: decode_image(b"x", "here: not an image", 8))


@pytest.mark.parametrize("mode", ["RGB", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("RGBA", "I;16"))])
def test_the_largest_image_that_is_read_stays_below_the_limit(tmp_path, mode):
    side = int(MAX_PIXELS**0.5)
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, format="PNG", compress_level=1)
    data = file.getvalue()
    assert len(data) < MAX_PIXELS // 50  # a bomb: tiny on disk
    for size in (64, None):
        assert in_a_child(tmp_path, lambda size=size: decode_image(data, "bomb", size)) == ""
    too_large = data.replace(side.to_bytes(4, "big"), (side + 1).to_bytes(4, "big"), 2)
    with pytest.raises(DataError, match="bomb"):
        decode_image(too_large, "bomb", 64)
