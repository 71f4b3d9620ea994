"""Readers of pictures, archives of pictures, pairs and latents, with a healthy file for each."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from file_formats import Format
from PIL import Image

from visionseq.data.idx import read_idx
from visionseq.data.image_folder import ImageFolder
from visionseq.data.latents import LatentShards, LatentWriter
from visionseq.data.pairs.noise import draw_noise
from visionseq.data.pairs.opening import open_pair_writer, open_pairs
from visionseq.data.webdataset import WebDatasetImages
from visionseq.data.zip_file import ZipArchive


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


def image_format(name: str, kind: str, **keywords) -> Format:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(encoded(kind, **keywords))
        return folder / name

    return Format(make, read_folder)


FORMATS = {
    "idx": Format(make_idx, read_idx),
    "idx.gz": Format(lambda folder: make_idx(folder).with_suffix(".gz"), read_idx),
    "png": image_format("a.png", "PNG"),
    "palette png": image_format("a.png", "PNG", mode="P", transparency=0),
    "16-bit png": image_format("a.png", "PNG", mode="I;16"),
    "jpeg": image_format("a.jpg", "JPEG"),
    "progressive jpeg": image_format("a.jpeg", "JPEG", progressive=True),
    "webp": image_format("a.webp", "WEBP"),
    "lossless webp": image_format("a.webp", "WEBP", lossless=True),
    "tar shard": Format(make_tar, read_tar),
    "pair images": Format(lambda folder: make_pairs(folder, "zip") / "samples.zip", read_pairs),
    "pair records": Format(lambda folder: make_pairs(folder, "zip") / "z.zip", read_pairs),
    "pair labels": Format(lambda folder: make_pairs(folder, "zip") / "images_labels.csv", read_pairs),
    "pair notes": Format(lambda folder: make_pairs(folder, "zip") / "pairs.json", read_pairs),
    "pair shard": Format(
        lambda folder: make_pairs(folder, "shards") / "pairs-000000000-000000003.safetensors", read_pairs
    ),
    "latent shard": Format(make_latents, read_latents),
}


def png_of(width: int, height: int) -> bytes:
    """A whole PNG header, and an image of which nothing is there."""
    return encoded("PNG").replace(struct.pack(">II", 12, 9), struct.pack(">II", width, height), 1)


def jpeg_of(width: int, height: int) -> bytes:
    return encoded("JPEG").replace(struct.pack(">HH", 9, 12), struct.pack(">HH", height, width), 1)


def idx_of(count: int) -> bytes:
    return bytes([0, 0, 8, 1]) + count.to_bytes(4, "big")


def tar_of(size: int) -> bytes:
    """A member whose header claims more than the archive has."""
    member = tarfile.TarInfo("a.png")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def zip_of(size: int) -> bytes:
    """A deflated member of zeros as the only image of a set of pairs."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.png", "w") as out,
    ):
        for _ in range(size >> 20):
            out.write(bytes(1 << 20))
    return file.getvalue()


def safetensors_of(shape: list[int], offsets: list[int]) -> bytes:
    header = json.dumps({"latent": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64)


def bomb(name: str, content: Callable[[], bytes], read: Callable[[Path], object]) -> tuple:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return make, read


def read_zip(path: Path) -> None:
    archive = ZipArchive(path)
    archive.read(0)


BOMBS = {
    "png, sides": bomb("a.png", lambda: png_of(60_000, 60_000), read_folder),
    "jpeg, sides": bomb("a.jpg", lambda: jpeg_of(65_000, 65_000), read_folder),
    "idx, count": bomb("x-idx1-ubyte", lambda: idx_of(1 << 29), read_idx),
    "idx.gz, count": bomb("x-idx1-ubyte.gz", lambda: gzip.compress(idx_of(1 << 29)), read_idx),
    "tar shard, size of a member": bomb("s.tar", lambda: tar_of(1 << 33), read_tar),
    "zip, zeros": bomb("a.zip", lambda: zip_of(1 << 29), read_zip),
    "latent shard, shape": bomb(
        "latents-000000.safetensors", lambda: safetensors_of([1 << 20] * 4, [0, 64]), read_latents
    ),
    "latent shard, bytes": bomb(
        "latents-000000.safetensors", lambda: safetensors_of([1 << 30], [0, 1 << 32]), read_latents
    ),
    "latent shard, header": bomb(
        "latents-000000.safetensors", lambda: struct.pack("<Q", 1 << 40) + bytes(64), read_latents
    ),
}
