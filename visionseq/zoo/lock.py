"""A lock between processes (and threads) that fetch the same file, so that one transfers and the others wait for it.

The operating system drops the lock with the process that holds it, so there are no stale locks. Where a file system
cannot lock, or a holder hangs, the caller goes on without: correctness never depends on the lock.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PAUSE = 0.1  # seconds between two attempts


@contextmanager
def exclusive(path: Path, timeout: float = 600.0, on_wait: Callable[[], object] | None = None) -> Iterator[bool]:
    """Hold the lock file `path`, making its folder; yields False where it could not be had in `timeout` seconds."""
    descriptor = _acquire(path, time.monotonic() + timeout, on_wait)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with suppress(OSError):  # Windows keeps a file that others have open
                path.unlink()
            os.close(descriptor)


def _acquire(path: Path, deadline: float, on_wait: Callable[[], object] | None) -> int | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process has just tidied the folder away
            continue
        try:
            if _try_lock(descriptor) and _is_same(path, descriptor):
                return descriptor
        except OSError:  # this file system has no locks
            os.close(descriptor)
            return None
        os.close(descriptor)
        if time.monotonic() > deadline:
            return None
        if on_wait is not None:
            on_wait()
            on_wait = None
        time.sleep(_PAUSE)


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    """False where the previous holder removed the file between our opening and our locking it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
