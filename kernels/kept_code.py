"""Compiled code on the disk: it ends with any source it was compiled from, and a full disk does not end the call."""

import logging
import os
from collections.abc import Callable
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile

log = logging.getLogger("visionseq.kernels")


class KeptCode(FunctionCache):
    """numba's cache of a function, which looks at the function's own file alone and raises where it cannot write.

    Raises RuntimeError where no folder can be written.
    """

    failed = False  # of the process: one warning is enough

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        stamps = [os.stat(path) for path in sorted(source_files(function))]
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=tuple((stamp.st_mtime_ns, stamp.st_size) for stamp in stamps),
        )

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            if not KeptCode.failed:
                log.warning("%s: compiled code cannot be kept (%s); it is used all the same", self.cache_path, error)
            KeptCode.failed = True


def source_files(function: Callable[..., Any]) -> set[str]:
    """The file of a function and those of the compiled functions and intrinsics that it may call, and so on."""
    files: set[str] = set()
    waiting = [function]
    while waiting:
        current = waiting.pop()
        if current.__code__.co_filename not in files:
            files.add(current.__code__.co_filename)
            values = list(current.__globals__.values())
            called = [getattr(value, "py_func", getattr(value, "_defn", None)) for value in values]
            waiting += [python for python in called if python is not None and hasattr(python, "__code__")]
    return files
