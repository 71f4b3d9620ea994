"""Label files that are missing: an empty file says that a frame has no objects, a missing one says nothing.

Every reader of labels looks for all of its label files when it is made, so that a folder with another name is noticed
before training starts.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from visionseq.errors import ConfigError, DataError

MissingLabels = Literal["refuse", "report"]
MOST_NAMED = 8  # entries of a folder in a message

_log = logging.getLogger("visionseq.data")


def check_labels(
    missing: Sequence[Path], total: int, policy: MissingLabels, lack: str = "this label file is missing"
) -> None:
    """Raise `DataError`, or log once, where label files are missing.

    Args:
        missing: the paths that were looked for.
        total: how many label files there should be.
        policy: refuse raises; report counts them in the log, and their frames have no labels.
        lack: the problem of the first of them, for the message.
    """
    if policy not in ("refuse", "report"):
        raise ConfigError(f"missing_labels: {policy!r}, expected refuse or report")
    if not missing:
        return
    count = f"{missing[0]}: {lack} ({len(missing)} of {total} are missing{_beside(missing[0])})"
    if policy == "refuse":
        hint = "an empty file says that a frame has no objects; missing_labels: report takes frames without labels"
        raise DataError(f"{count}; {hint}")
    _log.warning("%s; their frames have no labels", count)


def _beside(path: Path) -> str:
    """The contents of the place where the folder of the labels was expected."""
    if path.parent.is_dir() or not path.parent.parent.is_dir():
        return ""
    names = sorted(entry.name for entry in path.parent.parent.iterdir())[:MOST_NAMED]
    return f"; {path.parent.parent} holds {', '.join(names)}"
