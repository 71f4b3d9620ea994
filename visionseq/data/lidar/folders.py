"""Where a data set lies, and what to say where it does not."""

from pathlib import Path

from visionseq.errors import ConfigError


def require(path: Path, data_set: str) -> None:
    """`ConfigError` where a file or folder of a data set is not there, with the README that says how to get it."""
    if not path.exists():
        raise ConfigError(f"{path} is not there; see datasets/{data_set}/README.md")
