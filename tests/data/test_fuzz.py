"""Every input format, mutated: whatever a file holds, the answer is data or a `DataError`, soon, in little memory.

Each format runs in a child process with an address space of 1 GB beyond what it starts with, and with a clock.
"""

import gzip
import io
import os
import resource
import signal
import tarfile
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from point_file_writers import write_feather, write_las, write_pcd, write_ply

from visionseq.data.decode import MAX_PIXELS, decode_image
from visionseq.data.idx import read_idx
from visionseq.data.image_folder import ImageFolder
from visionseq.data.latents import LatentShards, LatentWriter
from visionseq.data.pairs.noise import draw_noise
from visionseq.data.pairs.opening import open_pair_writer, open_pairs
from visionseq.data.point_files import read_points
from visionseq.data.webdataset import WebDatasetImages
from visionseq.errors import DataError

MEMORY = 1 << 30
SECONDS = 60  # for one file; a healthy reader needs milliseconds
NORMAL, MANY = 200, 1000
COLUMNS = ("x", "y", "z", "intensity")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def encoded(kind: str, mode: str = "RGB", **keywords) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(0)).convert(mode).save(file, format=kind, **keywords)
    return file.getvalue()


def make_idx(folder: Path) -> Path:
    data = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (4, 5, 6)) + bytes(range(120))
    (folder / "x-idx3-ubyte").write_bytes(data)
    (folder / "x-idx3-ubyte.gz").write_bytes(gzip.compress(data))
    return folder / "x-idx3-ubyte"


def make_tar(folder: Path) -> Path:
    with tarfile.open(folder / "s.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(3):
            for name, data in ((f"{'ä' * 60}/{number}.jpg", encoded("JPEG")), (f"{'ä' * 60}/{number}.cls", b"7")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder / "s.tar"


def make_pairs(folder: Path, layout: str) -> Path:
    records, noise = draw_noise(0, 0, 3, (3, 4, 4))
    image = torch.from_numpy(np.stack([picture(i)[:4, :4].transpose(2, 0, 1) for i in range(3)]))
    with open_pair_writer(folder, layout, {"class_names": ["a", "b", "c"]}) as writer:
        writer.write(0, image, torch.arange(3), noise, records)
    return folder


def make_latents(folder: Path) -> Path:
    LatentWriter(folder, ["a", "b"]).write(torch.randn(5, 4, 2, 2), torch.zeros(5, dtype=torch.int64))
    return folder / "latents-000000.safetensors"


def read_folder(path: Path) -> None:
    dataset = ImageFolder(path.parent, 8)
    dataset.batch(np.arange(len(dataset)))


def read_tar(path: Path) -> None:
    dataset = WebDatasetImages(path, 8, index_dir=path)  # a file: no index is kept
    dataset.batch(np.arange(len(dataset)))


def read_pairs(path: Path) -> None:
    for in_memory in (True, False):
        pairs = open_pairs(path.parent, in_memory)
        pairs.batch(np.arange(len(pairs)))


def read_latents(path: Path) -> None:
    for in_memory in (True, False):
        dataset = LatentShards(path, in_memory)
        dataset.batch(np.arange(len(dataset)))


def image_case(name: str, kind: str, **keywords):
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(encoded(kind, **keywords))
        return folder / name

    return make, read_folder


def point_case(name: str, write, *arguments):
    def make(folder: Path) -> Path:
        write(folder / name, np.random.default_rng(0).normal(0, 20, (40, 4)).astype(np.float32), *arguments)
        return folder / name

    return make, read_points


FORMATS = {
    "idx": (make_idx, read_idx),
    "idx.gz": (lambda folder: make_idx(folder).with_suffix(".gz"), read_idx),
    "png": image_case("a.png", "PNG"),
    "palette png": image_case("a.png", "PNG", mode="P", transparency=0),
    "16-bit png": image_case("a.png", "PNG", mode="I;16"),
    "jpeg": image_case("a.jpg", "JPEG"),
    "progressive jpeg": image_case("a.jpeg", "JPEG", progressive=True),
    "webp": image_case("a.webp", "WEBP"),
    "lossless webp": image_case("a.webp", "WEBP", lossless=True),
    "tar shard": (make_tar, read_tar),
    "pair images": (lambda folder: make_pairs(folder, "zip") / "samples.zip", read_pairs),
    "pair records": (lambda folder: make_pairs(folder, "zip") / "z.zip", read_pairs),
    "pair labels": (lambda folder: make_pairs(folder, "zip") / "images_labels.csv", read_pairs),
    "pair notes": (lambda folder: make_pairs(folder, "zip") / "pairs.json", read_pairs),
    "pair shard": (lambda folder: make_pairs(folder, "shards") / "pairs-000000000-000000003.safetensors", read_pairs),
    "latent shard": (make_latents, read_latents),
    "npy": point_case("a.npy", np.save),
    "ascii pcd": point_case("a.pcd", write_pcd, COLUMNS, "ascii"),
    "binary pcd": point_case("a.pcd", write_pcd, COLUMNS, "binary"),
    "compressed pcd": point_case("a.pcd", write_pcd, COLUMNS, "binary_compressed"),
    "ascii ply": point_case("a.ply", write_ply, COLUMNS, "ascii"),
    "binary ply": point_case("a.ply", write_ply, COLUMNS, "binary_big_endian"),
    "las": point_case("a.las", write_las),
    "laz": point_case("a.laz", write_las),
    "feather": point_case("a.feather", write_feather, COLUMNS),
}


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
    make, read = FORMATS[name]
    path = make(folder)
    whole = path.read_bytes()
    read(path)
    rng = np.random.default_rng(count)
    refused = 0
    for number in range(count):
        path.write_bytes(mutated(whole, rng))
        signal.alarm(SECONDS)
        try:
            read(path)
        except DataError as error:
            refused += str(folder) in str(error) or pytest.fail(f"the message names no file: {error}")
        except BaseException as error:
            raise AssertionError(f"mutation {number} of {name} raised {type(error).__name__}") from error
    signal.alarm(0)
    assert refused > count // 20, f"only {refused} of {count} mutations were noticed"


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


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory limit needs Linux")
@pytest.mark.parametrize("count", [NORMAL, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_mutations(name, count, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    assert in_a_child(tmp_path, lambda: run(name, count, folder)) == ""


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
