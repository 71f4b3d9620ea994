"""Names that come from files: of archive members, of files of a data set, and of classes."""

import os
from pathlib import Path

from visionseq.errors import DataError
from visionseq.text_files import MAX_JSON, parse_json, read_text

LONGEST_PART = 255  # bytes of a file's name


def check_name(name: str, where: str) -> str:
    """A member's name with `/` between its parts: relative, inside the archive, harmless as the name of a file.

    Raises `DataError` for `..`, absolute names, drives and control characters.
    """
    parts = _parts(name)
    if not parts:
        raise DataError(f"{where}: the member name {name!r} would lie outside the archive's own folder")
    return "/".join(parts)


def path_below(root: Path, name: str, where: str) -> Path:
    """The file `name` below `root`, for names that a data file holds: frames, sweeps, scenes.

    `..`, absolute names, drives and control characters raise `DataError` beginning with `where`. Symbolic links are
    followed, because data sets lie on several disks: a name can only reach where its owner's links lead.
    """
    parts = _parts(name)
    if not parts or parts == ["."] or max(map(_size, parts)) > LONGEST_PART:
        raise DataError(f"{where}: the name {name[:300]!r}, expected a file below {root}")
    return root.joinpath(*parts)


def check_class_names(value: object, where: str) -> list[str]:
    """The value, if it is a list of names; raises `DataError` otherwise."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{where}: class names {str(value)[:40]}, expected a list of names")
    return value


def read_json(path: Path, default: object) -> object:
    """The value of a JSON file, `default` where the file is missing; raises `DataError` where it is damaged."""
    return parse_json(read_text(path, MAX_JSON), str(path)) if path.exists() else default


def _parts(name: str) -> list[str]:
    """The parts of a relative name that stays below its folder; none where it does not."""
    parts = name.replace("\\", "/").removeprefix("./").split("/")
    leaves = parts[0] == "" or ".." in parts or ":" in parts[0] or any(ord(letter) < 32 for letter in name)
    return [] if not name or leaves else parts


def _size(part: str) -> int:
    """Bytes of a part of a name; more than any file system takes where it cannot be a name at all."""
    try:
        return len(os.fsencode(part))
    except UnicodeEncodeError:
        return LONGEST_PART + 1
