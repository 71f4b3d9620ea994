"""What commands print: results on stdout, messages on stderr, control characters of names and replies escaped."""

import logging
import os
import sys

from visionseq.errors import printable


def say(*lines: object) -> None:
    """Print each value on a line of its own, at once."""
    try:
        for line in lines:
            print(printable(str(line)))
        sys.stdout.flush()
    except OSError as error:  # a full disk, or a reader that has gone: the interpreter must not try again at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "standard output") from error


def complain(message: str) -> None:
    """Print a message on stderr."""
    print(printable(message), file=sys.stderr)


class EscapedLines(logging.Formatter):
    """Log records as plain messages with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
