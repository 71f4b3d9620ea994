"""One run at a time in a folder: a lock that the operating system drops with the process that holds it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from visionseq.errors import ConfigError
from visionseq.files import named_write_errors

LOCK = ".lock"
# A process that was killed may leave workers behind, which hold its lock until they notice, within a few seconds.
PATIENCE = 8.0

_log = logging.getLogger("visionseq.training")


@contextmanager
def run_lock(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a run folder, which is created; the first of several processes holds it for all.

    Raises `ConfigError` where another run holds it after `patience` seconds, `WriteError` for a folder that cannot be
    written. On a file system without locks the run goes on without, with a warning.
    """
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        yield
        return
    with named_write_errors(folder / LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=patience)
        except Timeout as error:
            raise ConfigError(
                f"run_dir: another run is writing to {folder}; wait for its end, or choose another --run_dir"
            ) from error
        except NotImplementedError:
            _log.warning("the file system of %s has no locks; make sure that no second run writes to it", folder)
    try:
        yield
    finally:
        lock.release()
