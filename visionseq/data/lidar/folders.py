"""Where a data set lies, which of its frames a list names, and what to say where something is missing."""

from pathlib import Path

from visionseq.data.names import path_below
from visionseq.errors import ConfigError
from visionseq.text_files import read_list


def require(path: Path, data_set: str) -> None:
    """`ConfigError` where a file or folder of a data set is missing, with the README that says how to get it."""
    if not path.exists():
        raise ConfigError(f"{path} is not there; see datasets/{data_set}/README.md")


def listed_frames(path: Path, folder: Path) -> list[str]:
    """The names of a list of frames; `DataError` for a name that is no file of `folder`."""
    names = read_list(path)
    for name in names:
        path_below(folder, name, str(path))
    return names
