"""The errors that visionseq raises: each message names the file or argument, its content and what was expected."""

import importlib
import re
from types import ModuleType


class VisionseqError(Exception):
    """Base of all errors of visionseq; the command line prints its message without a traceback.

    Messages quote file names, file contents and replies of servers, so control characters are escaped. A message of
    several lines indents all but the first.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(VisionseqError):
    """Malformed or missing input data."""


class ConfigError(VisionseqError):
    """An argument or a configuration value that cannot be used."""


class CheckpointError(VisionseqError):
    """A checkpoint that is damaged, of another kind, or does not match the model."""


class TrainingError(VisionseqError):
    """A training that cannot go on, for instance because its loss is not finite."""


class WriteError(VisionseqError, OSError):
    """A file that cannot be written: the disk is full, the folder is read-only or in the way."""


class ZooError(VisionseqError):
    """A model that is not in the zoo, cannot be fetched, or fails its hash."""


class KernelError(VisionseqError):
    """A kernel backend that is unavailable or was given unsupported arguments."""


class KernelArgumentError(KernelError, ValueError):
    """An argument of a kernel with an unfit shape, dtype, device or value; the message begins with its name."""


def printable(text: str) -> str:
    """The text with `\\x1b` for an escape character and the like; a line feed stays before an indented line alone."""
    lines = re.split(r"\n(?=  )", text)
    return "\n".join("".join(map(_visible, line)) for line in lines)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise `ConfigError` naming the extra of visionseq that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise ConfigError(f"{module} is not installed; `pip install 'visionseq[{extra}]'` brings it") from error
