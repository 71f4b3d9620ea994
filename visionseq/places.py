"""Folders that visionseq reads and writes beside the user's own: caches, and the data that ship with the package.

VISIONSEQ_CACHE names the cache (default ~/.cache/visionseq). Where nothing can be written there, or the account has no
home, a temporary folder takes its place until the process ends. VISIONSEQ_OFFLINE=1, or Hugging Face's
HF_HUB_OFFLINE=1, forbids every download.
"""

import atexit
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

_log = logging.getLogger(__name__)


def cache_folder(*parts: str) -> Path:
    """The cache, or a folder below it; it is not created here."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "visionseq"
    return _with_home(os.environ.get("VISIONSEQ_CACHE") or default).joinpath(*parts)


def writable_cache(*parts: str) -> Path:
    """As `cache_folder`, or the same below a temporary folder where the cache cannot be written, reported once."""
    folder = cache_folder()
    return (folder if _is_writable(folder) else _substitute(folder)).joinpath(*parts)


def adopt_home() -> None:
    """Set HOME to a temporary folder where the account has none: libraries else make a folder that is called `~`."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = str(_temporary_folder())


def _with_home(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # an account without a home
        return _temporary_folder().joinpath(*Path(path).parts[1:])


def _is_writable(folder: Path) -> bool:
    """Whether files can be written to a folder, or to the nearest parent that exists."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent))
    return os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)


@cache
def _substitute(folder: Path) -> Path:
    temporary = _temporary_folder()
    _log.warning(
        "the cache %s cannot be written: %s serves until this process ends; VISIONSEQ_CACHE names another place",
        folder,
        temporary,
    )
    return temporary


@cache
def _temporary_folder() -> Path:
    folder, process = tempfile.mkdtemp(prefix="visionseq-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # not in a worker that was forked
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def shipped_folder(name: str) -> Path:
    """The folder `configs` or `model_zoo`: inside the installed package, or beside it in a checkout.

    Raises `FileNotFoundError` naming both places where it is in neither.
    """
    package = Path(__file__).resolve().parent
    places = [package / name, package.parent / name]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"the folder {name} of visionseq is missing, looked in {places[0]} and {places[1]}")


def is_offline() -> bool:
    """True where VISIONSEQ_OFFLINE or HF_HUB_OFFLINE is set to something other than 0, no, off or false."""
    return any(_is_set(name) for name in ("VISIONSEQ_OFFLINE", "HF_HUB_OFFLINE"))


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() not in ("", "0", "no", "off", "false")
