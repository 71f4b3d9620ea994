"""numba for code that runs on the CPU: three kinds of functions, one cache, and a message where compiling takes long.

A function is compiled when it is first called with arguments of a new type. The result is kept beside the source, or in
the user's cache where the package cannot be written; NUMBA_CACHE_DIR names another folder. Where no folder can be
written, every process compiles anew.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
from numba.core import event

from visionseq.kernels.kept_code import KeptCode

log = logging.getLogger("visionseq.kernels")

# without `nnan` and `ninf`: NaN and infinity behave as IEEE 754 says
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
ANNOUNCE_AFTER = 1.0  # seconds


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Sums and products may be reordered and fused, so that loops vectorise; runs without the interpreter's lock."""
    return _njit(function, fastmath=FASTMATH)


def exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, with every operation rounded as it is written."""
    return _njit(function, fastmath=False)  # numba would take over the setting of the caller if none were given


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, and copied into its callers, whose loops then vectorise with it."""
    return _njit(function, fastmath=FASTMATH, inline="always")


def _njit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    dispatcher: Any = numba.njit(function, nogil=True, error_model="numpy", **options)
    if _may_cache(function.__code__.co_filename):
        try:
            dispatcher._cache = KeptCode(function)
        except RuntimeError as error:  # numba tries the folders one by one and finds none that it can write
            if "cannot cache" not in str(error):
                raise
    return dispatcher


def _may_cache(source: str) -> bool:
    """Whether numba may look for a folder: without a home it would make one called `~` in the working directory."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~")
    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]  # numba makes its options when it is imported
    return bool(chosen) or os.path.isabs(home) or _writable(os.path.dirname(source))


@lru_cache
def _writable(folder: str) -> bool:
    """Whether numba can keep its results beside the sources of a folder."""
    cache = os.path.join(folder, "__pycache__")
    try:
        os.makedirs(cache, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        return False
    return True


class _Announcer(event.Listener):
    """Reports compilations of visionseq that take noticeable time, and once that their results cannot be kept."""

    def __init__(self) -> None:
        self.timers: dict[int, threading.Timer] = {}
        self.announced: set[str] = set()

    def on_start(self, event: event.Event) -> None:
        kernel = event.data["dispatcher"]
        module = kernel.py_func.__module__
        if not module.startswith("visionseq.") or module in self.announced:
            return
        timer = threading.Timer(ANNOUNCE_AFTER, self._announce, (module, kernel.stats.cache_path is not None))
        timer.daemon = True
        self.timers[id(kernel)] = timer
        timer.start()

    def on_end(self, event: event.Event) -> None:
        timer = self.timers.pop(id(event.data["dispatcher"]), None)
        if timer is not None:
            timer.cancel()

    def _announce(self, module: str, kept: bool) -> None:
        if module in self.announced:
            return
        self.announced.add(module)
        if kept:
            log.warning("compiling %s for this processor; the result is kept for later runs", module)
        elif "" not in self.announced:
            self.announced.add("")
            log.warning(
                "compiling %s and others for this processor; no folder can be written to keep the results, "
                "so that every run compiles again (NUMBA_CACHE_DIR names a folder)",
                module,
            )


event.register("numba:compile", _Announcer())
