"""The outputs of a command, looked at before its work begins.

No command replaces or mixes results unasked, and a place that cannot be written is an error at once, not after hours.
"""

import tempfile
from pathlib import Path

from visionseq.errors import ConfigError


def claim_files(*paths: Path, overwrite: bool) -> None:
    """Make sure that files can be written: their folders are made, existing files need `overwrite`.

    Raises `ConfigError` naming the path.
    """
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder, expected the name of a file")
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists; --overwrite replaces it")
    for folder in {path.parent for path in paths}:
        claim_folder(folder)


def claim_folder_of_results(folder: Path, overwrite: bool) -> None:
    """As `claim_folder`, for a folder whose files belong together: one that holds any needs `overwrite`."""
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ConfigError(f"{folder} exists; --overwrite replaces its contents")
    claim_folder(folder)


def claim_folder(folder: Path) -> None:
    """Make a folder, its parents too, and try to write into it; `ConfigError` naming it where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        obstacle = "it is a file" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise ConfigError(f"{folder} cannot be written: {obstacle}") from error
