"""Folders that visionseq reads and writes beside the user's own: caches, and the data that ship with the package.

VISIONSEQ_CACHE names the cache (default ~/.cache/visionseq). VISIONSEQ_OFFLINE=1, or Hugging Face's HF_HUB_OFFLINE=1,
forbids every download.
"""

import os
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """The cache, or a folder below it; it is not created here."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "visionseq"
    return Path(os.environ.get("VISIONSEQ_CACHE") or default).expanduser().joinpath(*parts)


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
