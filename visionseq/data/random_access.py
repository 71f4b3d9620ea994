"""Reading pieces of large files by offset, from any process, without sharing an open file."""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

from visionseq.errors import DataError

_MOST_OPEN = 32


class RandomAccess:
    """Reads bytes of files by offset.

    Files open when they are first read, in each process for itself; a fork and a pickle start with none.
    """

    def __init__(self):
        self._forget()

    def read(self, path: str | Path, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`; raises `DataError` naming the file and the offset where they are not there."""
        if self._process != os.getpid():
            self._forget()
        try:
            with self._lock:
                file = self._file(str(path))
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"{path}, offset {offset}: not readable: {error.strerror}") from error
        if len(data) < size:
            raise DataError(f"{path}, offset {offset}: the file ends after {len(data)} bytes, expected {size}")
        return data

    def _file(self, path: str) -> IO[bytes]:
        if path not in self._files:
            if len(self._files) >= _MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            self._files[path] = open(path, "rb", buffering=0)  # noqa: SIM115 (stays open for the next read)
        self._files.move_to_end(path)
        return self._files[path]

    def _forget(self) -> None:
        self._process = os.getpid()
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._forget()


def file_size(path: str | Path) -> int:
    """Size in bytes; raises `DataError` where the file is missing."""
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise DataError(f"{path}: not readable: {error.strerror}") from error
