"""From an archive or folder as it was downloaded to what `ImageFolder` and `WebDatasetImages` read.

Nothing is extracted to disk: members are read, checked and decoded in memory, so no name in an archive ever becomes a
path, and links, bombs and damaged members are refused by the readers. Results appear complete or not at all.
"""

import gzip
import io
import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

from visionseq.data.decode import EXTENSIONS, decode_image, encode_png
from visionseq.data.random_access import RandomAccess
from visionseq.data.shard_recipe import ShardRecipe, digest_of
from visionseq.data.tar_index import tar_members
from visionseq.data.webdataset import CLASS_NAMES_FILE
from visionseq.data.zip_file import ZipArchive
from visionseq.errors import DataError
from visionseq.files import atomic_write, write_json

_MAX_UNPACKED = 1 << 36  # of a compressed tar archive: 64 GB
_log = logging.getLogger(__name__)


@dataclass
class Item:
    """A file of a source: its name with folders, a function that reads it, and its name in errors."""

    name: str
    read: Callable[[], bytes]
    where: str
    keep: object = None  # an object that must live as long as the item can be read

    @property
    def folders(self) -> list[str]:
        return self.name.split("/")[:-1]


def items_of(source: str | os.PathLike) -> Iterator[Item]:
    """The files of a folder, a zip, a tar or a tar.gz, in order; tar archives within a tar are opened as folders.

    Raises `DataError` naming the archive and the offset of whatever is damaged or unsafe.
    """
    path = Path(source)
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            yield Item(file.relative_to(path).as_posix(), file.read_bytes, str(file))
    elif path.suffix == ".zip":
        archive = ZipArchive(path)
        for number, name in enumerate(archive.names.tolist()):
            yield Item(name.decode(), partial(archive.read, number), archive.where(number))
    elif path.name.endswith((".tar.gz", ".tgz")):
        unpacked = _unpack(path)
        yield from _tar_items(Path(unpacked.name), str(path), unpacked)
    else:
        yield from _tar_items(path, str(path))


def images_of(items: Iterable[Item]) -> Iterator[Item]:
    """The items that are PNG, JPEG or WebP by name and not hidden."""
    return (item for item in items if item.name.lower().endswith(EXTENSIONS) and "/." not in f"/{item.name}")


def write_folder(
    items: Iterable[tuple[str, Item]], out: str | os.PathLike, size: int, skip_corrupt: bool = False
) -> int:
    """Write items as `out/<name>.png` of `size` pixels; returns their number. The folder appears when it is complete.

    Each item comes with its name in the folder: `class/stem`, or a stem alone.
    """
    out = Path(out)
    if out.exists():
        raise DataError(f"{out}: exists already; remove it to prepare the data again")

    # Write the images to a folder beside it.
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        count = 0
        for block in _blocks(items, 1024):
            for (name, _), data in zip(block, _converted([item for _, item in block], size, skip_corrupt), strict=True):
                if data is not None:
                    path = temporary / f"{name}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                    count += 1
        _refuse_nothing(count, out)

        # The complete folder gets its name.
        temporary.chmod(0o755)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def write_shards(
    items: Iterable[tuple[int | None, Item]],
    out: str | os.PathLike,
    size: int,
    class_names: list[str] | None = None,
    per_shard: int = 10_000,
    skip_corrupt: bool = False,
    overwrite: bool = False,
) -> int:
    """Write items with their classes as WebDataset shards of PNG images; returns the number of shards.

    Finished shards of the same settings, names and classes are kept, so that an interrupted call goes on where it
    stopped. Raises `ConfigError` where the folder holds other shards, unless they may be overwritten.
    """
    out = Path(out)
    settings = {
        "size": size,
        "per_shard": per_shard,
        "skip_corrupt": skip_corrupt,
        "class_names": class_names or [],
    }
    recipe = ShardRecipe(out, settings, overwrite)

    # A shard for each block of items.
    names: list[str] = []
    for number, block in enumerate(_blocks(items, per_shard)):
        names.append(f"{number:06d}.tar")
        digest = digest_of((label, item.name) for label, item in block)
        if not recipe.holds(names[-1], digest):
            with atomic_write(out / names[-1]) as file:
                _write_shard(file, number * per_shard, block, size, skip_corrupt)
            recipe.add(names[-1], digest)
    _refuse_nothing(len(names), out)
    recipe.check_complete(names)

    # The names of the classes, where there are any.
    (out / CLASS_NAMES_FILE).unlink(missing_ok=True)
    if class_names:
        write_json(out / CLASS_NAMES_FILE, class_names)
    return len(names)


def _write_shard(file, start: int, block: list[tuple[int | None, Item]], size: int, skip_corrupt: bool) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        images = _converted([item for _, item in block], size, skip_corrupt)
        for number, ((label, _), data) in enumerate(zip(block, images, strict=True), start):
            if data is None:
                continue
            members = [("png", data)] + ([] if label is None else [("cls", str(label).encode())])
            for extension, content in members:
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _converted(items: list[Item], size: int, skip_corrupt: bool) -> Iterator[bytes | None]:
    """PNG bytes of each item in order, None for one that is skipped; decoding runs in threads."""

    def convert(item: Item) -> bytes | None:
        try:
            return encode_png(decode_image(item.read(), item.where, size))
        except DataError as error:
            if not skip_corrupt:
                raise
            _log.warning("skipped: %s", error)
            return None

    with ThreadPoolExecutor() as pool:
        yield from pool.map(convert, items)


def _blocks(items: Iterable, length: int) -> Iterator[list]:
    iterator = iter(items)
    while block := list(islice(iterator, length)):
        yield block


def _refuse_nothing(count: int, out: Path) -> None:
    if not count:
        raise DataError(f"{out}: the source holds no images ({', '.join(EXTENSIONS)}) where they were expected")


def _tar_items(
    path: Path, shown: str, keep: object = None, start: int = 0, size: int | None = None, prefix: str = ""
) -> Iterator[Item]:
    files = RandomAccess()
    for member in tar_members(path, start, size):
        name, where = prefix + member.name, f"{shown}, {prefix}{member.name}, offset {member.offset}"
        if name.endswith(".tar") and not prefix:
            yield from _tar_items(path, shown, keep, member.offset, member.size, name.removesuffix(".tar") + "/")
        else:
            yield Item(name, partial(files.read, path, member.offset, member.size), where, keep)


def _unpack(path: Path) -> IO[bytes]:
    """A temporary file with the content of a gzip file; it is removed when the object is."""
    tar = tempfile.NamedTemporaryFile(suffix=".tar")  # noqa: SIM115 (lives as long as the items that are read from it)
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(1 << 20):
                if tar.tell() + len(block) > _MAX_UNPACKED:
                    raise DataError(f"{path}: unpacks to more than {_MAX_UNPACKED} bytes")
                tar.write(block)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}") from error
    tar.flush()
    return tar
