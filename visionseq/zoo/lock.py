"""A lock between processes (and threads) that fetch the same file, so that one transfers and the others wait for it.

The system drops the lock with the process that holds it, so there are no stale locks. Where a file system cannot lock,
or a holder hangs, the caller goes on without: correctness never depends on the lock.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def exclusive(path: Path, timeout: float = 600.0, on_wait: Callable[[], object] | None = None) -> Iterator[bool]:
    """Hold the lock file `path`, making its folder; yields False where it is not free within `timeout` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    is_held = _acquire(lock, timeout, on_wait)
    try:
        yield is_held
    finally:
        if is_held:
            with suppress(OSError):  # Windows keeps a file that others have open
                path.unlink()
            lock.release()


def _acquire(lock: FileLock, timeout: float, on_wait: Callable[[], object] | None) -> bool:
    for seconds in (0.0, timeout):
        try:
            lock.acquire(timeout=seconds)
            return True
        except Timeout:
            if on_wait is not None and seconds < timeout:
                on_wait()
        except (OSError, NotImplementedError):  # this file system has no locks
            return False
    return False
