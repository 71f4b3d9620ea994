"""numba for the CPU kernels: compiled on the first call, kept on disk, announced where the wait is long.

`fastmath` without `nnan` and `ninf`: NaN and infinity behave as IEEE 754 says, so that a test with NaN means something.
"""

import logging
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import numba

log = logging.getLogger("visionseq.kernels")

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
ANNOUNCE_AFTER = 1.0  # seconds


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """A numba kernel that runs without the interpreter's lock; its code is cached beside the source or for the user."""
    kernel = numba.njit(nogil=True, cache=True, fastmath=FASTMATH, error_model="numpy")(function)
    lock = threading.Lock()

    @wraps(function)
    def call(*args: Any) -> None:
        if not kernel.signatures:
            with lock, _Announcement(function.__module__):
                kernel(*args)
        else:
            kernel(*args)

    return call


inlined = numba.njit(nogil=True, cache=True, fastmath=FASTMATH, error_model="numpy", inline="always")


class _Announcement:
    """Says that a kernel is being compiled once the wait has become noticeable."""

    def __init__(self, name: str):
        message = "compiling %s for this processor; the result is kept for later runs"
        self.timer = threading.Timer(ANNOUNCE_AFTER, log.warning, (message, name))
        self.timer.daemon = True

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *exception: object) -> None:
        self.timer.cancel()
