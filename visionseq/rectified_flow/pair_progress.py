"""Progress of pair generation on stderr: a bar in a terminal, elsewhere a plain line at most every ten seconds."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visionseq.errors import printable

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown_progress(label: str, done: int, total: int) -> Iterator[Callable[[int], object]]:
    """Give a function to be called with the number of pairs that are there; `done` of `total` were there before."""
    if not sys.stderr.isatty() or "SLURM_JOB_ID" in os.environ:
        yield _Lines(label, done, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} pairs/s"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(printable(label), completed=done, total=total, rate=0.0)
        yield lambda count: progress.update(
            task, completed=count, rate=(count - done) / max(time.monotonic() - start, 1e-9)
        )


class _Lines:
    def __init__(self, label: str, done: int, total: int):
        self.label, self.before, self.total = printable(label), done, total
        self.start = self.last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self.last < _SECONDS_BETWEEN_LINES and done < self.total:
            return
        self.last = now
        rate = (done - self.before) / max(now - self.start, 1e-9)
        left = (self.total - done) / max(rate, 1e-9)
        sys.stderr.write(f"{self.label}: {done}/{self.total} pairs  {rate:.0f} pairs/s  ETA {left:.0f} s\n")
        sys.stderr.flush()
