"""Files that are either complete or absent: write to a temporary sibling, fsync, rename.

A process that is killed while it writes leaves the temporary file, `.NAME.xxxxxxxx.part`; `is_leftover` recognises it.
"""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from visionseq.errors import WriteError

_PART = ".part"  # how temporary files end
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}  # errors of writing, whose file has no name


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on a clean exit it replaces `path`, on an error it is removed.

    The data and the folder entry reach the disk before the context ends, so a reader sees the old file or the
    whole new one, whatever happens in between. Raises `WriteError` where the disk or the folder refuses.
    """
    path = Path(path)
    with named_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            sync_file(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _fsync_folder(path.parent)


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open a file that appears under `path`, complete and on the disk, when the context ends without an error."""
    with atomic_path(path) as temporary, open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file


@contextmanager
def named_write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Raise `WriteError` with `path` for errors of writing it within the context; other errors pass.

    The system names no file where a disk is full, and torch and PIL hide the system's error behind their own.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = _disk_error(error, Path(path))
        if cause is None or isinstance(error, WriteError):
            raise
        obstacle = "" if cause.filename is None or is_leftover(cause.filename) else f": {cause.filename}"
        refusal = WriteError(f"{path} cannot be written: {cause.strerror or cause}{obstacle}")
        refusal.errno = cause.errno
        raise refusal from error


def is_leftover(path: str | os.PathLike) -> bool:
    """True for the name of a temporary file of `atomic_path`, which a killed process leaves behind."""
    name = Path(path).name
    return name.startswith(".") and name.endswith(_PART)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete the temporary files that killed processes left in a folder; nobody else may be writing there."""
    for path in Path(folder).glob(f".*{_PART}"):
        path.unlink(missing_ok=True)


def sync_file(path: str | os.PathLike) -> None:
    """Wait until a file's content is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def sha256_of(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def kind_of(path: str | os.PathLike) -> str:
    """The kind of a file by its first bytes, for error messages."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        return f"nothing readable ({error.strerror})"
    if not head:
        return "an empty file"
    if is_safetensors_head(head):
        return "the beginning of a safetensors file"
    signatures = {
        b"PK": "a zip archive, as torch.save writes it",
        b"\x80": "a serialised Python object",
        b"version https": "a Git LFS pointer instead of the file itself",
        b"<": "a web page",
        b"\x89HDF": "an HDF5 file",
    }
    return next(
        (kind for start, kind in signatures.items() if head.startswith(start)), f"bytes that begin with {head[:8]!r}"
    )


def is_safetensors_head(head: bytes) -> bool:
    """True where the first nine bytes or more of a file are a safetensors header's length and its opening brace."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000  # the limit of the format


def _digest(file: IO[bytes]) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _disk_error(error: BaseException | None, path: Path) -> OSError | None:
    """The system's error of writing `path` among an error and what caused it, or None."""
    while error is not None:
        if isinstance(error, OSError) and _concerns(error, path):
            return error
        error = error.__cause__ or error.__context__
    return None


def _concerns(error: OSError, path: Path) -> bool:
    if error.filename is None:
        return error.errno in _DISK
    named = Path(os.fsdecode(error.filename)) if not isinstance(error.filename, int) else Path()
    return named in (path, *path.parents) or (named.parent == path.parent and is_leftover(named))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
