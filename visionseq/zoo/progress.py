"""Progress of a transfer on stderr: a bar in a terminal, elsewhere a plain line at most every ten seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visionseq.errors import printable

_INTERVAL = 10.0  # seconds between two lines


@contextmanager
def shown_progress(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Give a function to be called with the number of bytes that are there."""
    if not sys.stderr.isatty():
        yield _Lines(label, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(label), total=total)
        yield lambda done: progress.update(task, completed=done)


class _Lines:
    def __init__(self, label: str, total: int):
        self.label, self.total, self.last = printable(label), max(total, 1), time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self.last >= _INTERVAL:
            self.last = now
            sys.stderr.write(f"{self.label}: {done / 1e6:.1f} of {self.total / 1e6:.1f} MB ({done / self.total:.0%})\n")
