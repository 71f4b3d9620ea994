"""Where an entry's files are: shipped beside the index, or in the cache as zoo/<name>/<fingerprint of the hashes>."""

import hashlib
import os
from pathlib import Path

from visionseq.errors import ZooError
from visionseq.places import cache_folder, is_offline, writable_cache
from visionseq.zoo.download import fetch, is_intact
from visionseq.zoo.index import Entry, FileEntry, read_index


def model_folder(
    name: str,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """The folder of a zoo model, whose files have the hashes of the index; a missing file is fetched.

    Raises `ZooError` where the name is unknown or a file cannot be fetched.
    """
    entry = read_index()[name]
    if local_files_only or is_offline():
        return _present(entry, cache_dir)
    return fetch_entry(entry, cache_dir=cache_dir, token=token, force_download=force_download)


def fetch_entry(
    entry: Entry,
    *,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
) -> Path:
    """As `model_folder`, for an entry of any index."""
    shipped = shipped_model_folder(entry)
    if shipped is not None and all(is_intact(shipped / file.name, file) for file in entry.files.values()):
        return shipped
    folder = cached_model_folder(entry, cache_dir)
    if cache_dir is None and (force_download or not _holds(folder, entry)):
        folder = cached_model_folder(entry, writable_cache("zoo"))
    return fetch_files(entry, folder, token=token, force_download=force_download)


def fetch_files(
    entry: Entry, folder: str | Path, *, token: str | bool | None = None, force_download: bool = False
) -> Path:
    """Put the files of an entry into `folder`, each verified before it appears; raises `ZooError`."""
    for file in entry.files.values():
        fetch(file, Path(folder) / file.name, index_folder=entry.folder, token=token, force=force_download)
    return Path(folder)


def shipped_model_folder(entry: Entry) -> Path | None:
    """The folder beside the index that holds all files of the entry, or None."""
    for source in next(iter(entry.files.values())).sources:
        folder = (entry.folder / source).parent
        if "://" not in source and _holds(folder, entry):
            return folder
    return None


def cached_model_folder(entry: Entry, cache_dir: str | Path | None = None) -> Path:
    """The folder of the cache for this version of an entry; it may not exist."""
    versions = "".join(f"{name} {file.sha256}\n" for name, file in sorted(entry.files.items()))
    fingerprint = hashlib.sha256(versions.encode()).hexdigest()[:16]
    return Path(cache_dir or cache_folder("zoo")) / entry.name / fingerprint


def local_model_folder(entry: Entry, cache_dir: str | Path | None = None) -> Path | None:
    """The folder that has all files of an entry, shipped or cached, unchecked; None where it was never fetched."""
    cached = cached_model_folder(entry, cache_dir)
    return shipped_model_folder(entry) or (cached if _holds(cached, entry) else None)


def _holds(folder: Path, entry: Entry) -> bool:
    return all(os.path.isfile(folder / name) for name in entry.files)  # also False where reading is not permitted


def verify(name: str, cache_dir: str | Path | None = None) -> dict[str, str]:
    """Hash the local files of a zoo model: file name -> "ok", "absent" or "damaged"."""
    return verify_entry(read_index()[name], cache_dir)


def verify_entry(entry: Entry, cache_dir: str | Path | None = None) -> dict[str, str]:
    """As `verify`, for an entry of any index."""
    folder = local_model_folder(entry, cache_dir) or cached_model_folder(entry, cache_dir)
    return {file.name: _state(folder / file.name, file) for file in entry.files.values()}


def _state(path: Path, file: FileEntry) -> str:
    if not os.path.exists(path):
        return "absent"
    return "ok" if is_intact(path, file) else "damaged"


def _present(entry: Entry, cache_dir: str | Path | None) -> Path:
    """The folder that already holds every file intact, without any transfer."""
    folder = local_model_folder(entry, cache_dir) or cached_model_folder(entry, cache_dir)
    for file in entry.files.values():
        state = _state(folder / file.name, file)
        if state != "ok":
            raise ZooError(f"{entry.name}: {file.name} is {state} in {folder}, and the network is switched off")
    return folder
