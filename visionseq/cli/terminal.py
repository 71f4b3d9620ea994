"""The output of commands: results on stdout, messages on stderr, control characters of names and replies escaped."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from visionseq.errors import printable


def say(*lines: object) -> None:
    """Print each value on a line of its own, at once."""
    try:
        for line in lines:
            print(printable(str(line)))
        sys.stdout.flush()
    except OSError as error:  # a full disk, or a reader that has ended: the interpreter must not try again at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "standard output") from error


def complain(message: str) -> None:
    """Print a message on stderr."""
    print(printable(message), file=sys.stderr)


class EscapedLines(logging.Formatter):
    """Log records as plain messages with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def few_of_a_kind(log: logging.Logger, most: int = 3) -> Iterator[None]:
    """Let `most` warnings of a kind through, and say at the end how many more there were; files are often alike."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def is_shown(record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        counts[record.msg] += 1
        examples.setdefault(record.msg, record.getMessage())
        return counts[record.msg] <= most

    log.addFilter(is_shown)
    try:
        yield
    finally:
        log.removeFilter(is_shown)
        for kind, count in counts.items():
            if count > most:
                log.warning("%d more warnings like: %s", count - most, examples[kind])
