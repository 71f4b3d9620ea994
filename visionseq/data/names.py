"""Names that come from files: of archive members, and of classes."""

import json
from pathlib import Path

from visionseq.errors import DataError


def check_name(name: str, where: str) -> str:
    """A member's name with `/` between its parts: relative, inside the archive, harmless as the name of a file.

    Raises `DataError` for `..`, absolute names, drives and control characters.
    """
    parts = name.replace("\\", "/").removeprefix("./").split("/")
    if not name or parts[0] == "" or ".." in parts or ":" in parts[0] or any(ord(letter) < 32 for letter in name):
        raise DataError(f"{where}: the member name {name!r} would lie outside the archive's own folder")
    return "/".join(parts)


def check_class_names(value: object, where: str) -> list[str]:
    """The value, if it is a list of names; raises `DataError` otherwise."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{where}: class names {str(value)[:40]}, expected a list of names")
    return value


def parse_json(text: str, where: str) -> object:
    """The value of a JSON text; raises `DataError` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a JSON text: {error}") from error


def read_json(path: Path, default: object) -> object:
    """The value of a JSON file, `default` where there is no such file; raises `DataError` where it is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return default
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable: {error}") from error
    return parse_json(text, str(path))
