"""Names of archive members: relative, inside the archive, harmless as the name of a file."""

from visionseq.errors import DataError


def check_name(name: str, where: str) -> str:
    """The name with `/` between its parts; raises `DataError` for `..`, absolute names, drives, control characters."""
    parts = name.replace("\\", "/").removeprefix("./").split("/")
    if not name or parts[0] == "" or ".." in parts or ":" in parts[0] or any(ord(letter) < 32 for letter in name):
        raise DataError(f"{where}: the member name {name!r} would lie outside the archive's own folder")
    return "/".join(parts)
