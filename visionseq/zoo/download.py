"""One verified file: fetched from the first source that gives the right bytes, complete or absent.

A transfer goes to a part file in the target's folder that no other process writes to; its size and SHA-256 are checked,
then it is renamed. The next attempt, in this process or another, takes over a part that an interruption left. The lock
only saves transfers: without it two processes would fetch the file twice, into two part files.
"""

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from visionseq.errors import ZooError
from visionseq.files import is_safetensors_head, kind_of, sha256_of, sync_file
from visionseq.places import is_offline
from visionseq.progress import MEGABYTES, progress
from visionseq.zoo.index import FileEntry
from visionseq.zoo.lock import exclusive
from visionseq.zoo.transfer import Report, SourceError, is_full_disk, transfer


def is_intact(path: Path, file: FileEntry) -> bool:
    """True where `path` has the size and the hash of the index."""
    try:
        return path.stat().st_size == file.size and sha256_of(path) == file.sha256
    except FileNotFoundError:
        return False


def fetch(
    file: FileEntry, target: Path, *, index_folder: Path, token: str | bool | None = None, force: bool = False
) -> None:
    """Make `target` the file that the index describes; raises `ZooError` with the reason of each source."""
    if not force and is_intact(target, file):
        return
    sources = [source if "://" in source else str(index_folder / source) for source in file.sources]
    if is_offline():
        sources = [source for source in sources if "://" not in source or source.startswith("file://")]
        if not sources:
            raise ZooError(f"{file.name}: the network is switched off and {target.parent} does not hold an intact copy")
    new_folders = [folder for folder in target.parents if not folder.exists()]
    try:
        with exclusive(target.with_name(f".{target.name}.lock"), on_wait=lambda: _say_waiting(target)):
            if force or not is_intact(target, file):  # another process may have fetched it while we waited
                _fetch_from_any(file, target, sources, token)
    except OSError as error:
        raise ZooError(_disk_reason(error, file, target)) from error
    finally:
        with suppress(OSError):  # a failure leaves no empty folders
            for folder in new_folders:
                folder.rmdir()


def _fetch_from_any(file: FileEntry, target: Path, sources: list[str], token: str | bool | None) -> None:
    reasons = []
    with _part_file(target, file) as part:
        received = part.stat().st_size
        free, needed = shutil.disk_usage(target.parent).free, file.size - received
        if free < needed:
            raise ZooError(
                f"{file.name} needs {needed / 1e6:.1f} MB more, {target.parent} has {free / 1e6:.1f} MB free"
            )
        with progress(file.name, file.size, MEGABYTES, done=received) as meter:
            for source in sources:
                try:
                    _fetch_verified(file, source, part, meter.reach, token)
                except SourceError as error:
                    reasons.append(f"  {source}: {error}")
                    continue
                sync_file(part)
                os.replace(part, target)
                return
    raise ZooError(f"{file.name} cannot be fetched:\n" + "\n".join(reasons) + f"\n  A copy may also be put at {target}")


def _fetch_verified(file: FileEntry, source: str, part: Path, report: Report, token: str | bool | None) -> None:
    resumed = part.stat().st_size > 0
    transfer(source, part, file.size, report, token)
    problem = _problem(file, part)
    if problem and resumed:  # the part may have come from another source or version: once more from the start
        os.truncate(part, 0)
        transfer(source, part, file.size, report, token)
        problem = _problem(file, part)
    if problem:
        os.truncate(part, 0)
        raise SourceError(problem)


def _problem(file: FileEntry, path: Path) -> str | None:
    sha256 = sha256_of(path)
    if sha256 != file.sha256:
        return f"its sha256 is {sha256}, the index says {file.sha256}"
    with open(path, "rb") as opened:
        head = opened.read(9)
    if file.name.endswith(".safetensors") and not is_safetensors_head(head):
        return f"is no safetensors file but {kind_of(path)}; it was not opened"
    return None


@contextmanager
def _part_file(target: Path, file: FileEntry) -> Iterator[Path]:
    """A part file that no other process writes to, with the bytes of an interrupted attempt, if there are any.

    Afterwards an incomplete part has a name under which the next attempt takes it over.
    """
    # Take over a part that was left, or that belongs to a process that has ended.
    stem = f".{target.name}.{file.sha256[:16]}"
    unowned = target.with_name(f"{stem}.part")
    part = target.with_name(f"{stem}.{socket.gethostname()}@{os.getpid()}@{secrets.token_hex(4)}.part")
    for abandoned in (unowned, *filter(_owner_is_dead, target.parent.glob(f"{stem}.*@*@*.part"))):
        with suppress(FileNotFoundError):
            os.replace(abandoned, part)
            break
    else:
        part.touch()

    # Leave an incomplete part for the next attempt, but none on a full disk.
    try:
        yield part
    except OSError as error:
        if is_full_disk(error):
            part.unlink(missing_ok=True)
        raise
    finally:
        with suppress(FileNotFoundError):
            if 0 < part.stat().st_size < file.size:
                os.replace(part, unowned)
            else:
                part.unlink()


def _owner_is_dead(part: Path) -> bool:
    host, process, _ = part.name.rsplit("@", 2)
    if os.name != "posix" or not host.endswith(f".{socket.gethostname()}") or not process.isdecimal():
        return False  # it may be alive on another machine
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _disk_reason(error: OSError, file: FileEntry, target: Path) -> str:
    if is_full_disk(error):
        return f"{file.name} needs {file.size / 1e6:.1f} MB and the disk of {target.parent} is full"
    return f"{file.name} cannot be written to {target.parent}: {error.strerror or error}"


def _say_waiting(target: Path) -> None:
    sys.stderr.write(f"{target.name}: another process is fetching it, waiting\n")
