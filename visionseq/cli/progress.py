"""Progress of a command on stderr: a bar in a terminal, elsewhere a plain line at most every ten seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visionseq.cli.terminal import complain
from visionseq.errors import printable

_INTERVAL = 10.0  # seconds between two lines


@contextmanager
def counted(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Give a function to be called with the number of items that were done since the last call."""
    if not sys.stderr.isatty():
        yield _Lines(label, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(label), total=total)
        yield lambda items: progress.update(task, advance=items)


class _Lines:
    def __init__(self, label: str, total: int):
        self.label, self.total, self.done = label, total, 0
        self.start = self.last = time.monotonic()

    def __call__(self, items: int) -> None:
        self.done += items
        now = time.monotonic()
        if now - self.last >= _INTERVAL and self.done < self.total:
            self.last = now
            left = (self.total - self.done) * (now - self.start) / self.done
            complain(f"{self.label}: {self.done} of {self.total}, {left:.0f} s left")
