"""Progress of long work: a bar on a terminal, plain lines everywhere else (files, SLURM, CI).

with progress("sampling", 5000, unit="images") as meter:
    meter.advance(64)
"""

import os
import sys
import time
from abc import ABC, abstractmethod
from typing import TextIO

from visionseq.errors import printable

MEGABYTES = "MB"  # the unit of work that is counted in bytes


class Meter(ABC):
    """Counts finished units of work; a subclass displays them, at most once in `interval` seconds.

    Args:
        label: the name of the work.
        total: the count when all is done; None: unknown.
        unit: of the count; `MEGABYTES`: the count is in bytes; empty: the display shows no rate.
        done: the count that an earlier run left; rate and remaining time leave it out.
        stream: where the display goes.
    """

    interval: float

    def __init__(self, label: str, total: int | None, unit: str, done: int, stream: TextIO):
        self.label = printable(label).replace("\n", r"\n")
        self.total, self.unit, self.stream = total, unit, stream
        self.done = self.before = done
        self.start = self.shown = time.monotonic()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """Count the units since the last call."""
        self.reach(self.done + count)

    def reach(self, done: int) -> None:
        """Set the count. Where it goes back, the work starts anew: so do rate and remaining time."""
        if done < self.done:
            self.before, self.start = done, time.monotonic()
        self.done = done
        if self.is_due():
            self.show()

    def is_due(self) -> bool:
        """True where the last display is `interval` seconds old."""
        return time.monotonic() - self.shown >= self.interval

    def show(self, facts: str = "") -> None:
        """Display the count at once, with a text beside it."""
        self.shown = time.monotonic()
        self.display(_joined(facts, self._rate()))

    @abstractmethod
    def display(self, facts: str) -> None:
        """Write the count and the facts."""

    def close(self) -> None:  # noqa: B027 (a display without an end has nothing to do)
        """End the display."""

    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at the mean speed so far; None where that is unknown."""
        done = self.done - self.before
        if self.total is None or done <= 0:
            return None
        return max(self.total - self.done, 0) * (time.monotonic() - self.start) / done

    def amount(self) -> str:
        """Count and total: "12/500", "12" without a total, "1.2/50.0 MB" of bytes."""
        counts = [self.done] if self.total is None else [self.done, self.total]
        if self.unit == MEGABYTES:
            return "/".join(f"{count / 1e6:.1f}" for count in counts) + " MB"
        return "/".join(map(str, counts))

    def speed(self, count: float, unit: str) -> str:
        """The mean speed of work that took as long as this meter's, such as "123 images/s"."""
        rate = count / max(time.monotonic() - self.start, 1e-9)
        return f"{rate:.{0 if rate >= 10 else 2}f} {unit}/s"

    def _rate(self) -> str:
        if not self.unit:
            return ""
        done = self.done - self.before
        return self.speed(done / 1e6 if self.unit == MEGABYTES else done, self.unit)


class LineMeter(Meter):
    """At most one line in ten seconds. Work that takes less time writes none."""

    interval = 10.0

    def display(self, facts: str) -> None:
        left = self.seconds_left()
        ending = f"ETA {'unknown' if left is None else _clock(left)}"
        self.stream.write(_joined(f"{self.label} {self.amount()}", facts, ending) + "\n")
        self.stream.flush()


class BarMeter(Meter):
    """A bar with elapsed and remaining time, updated five times a second; `stays`: the bar remains at the end."""

    interval = 0.2

    def __init__(self, label: str, total: int | None, unit: str, done: int, stream: TextIO, *, stays: bool):
        super().__init__(label, total, unit, done, stream)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description} {task.fields[amount]}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        # rich moves text that is printed meanwhile above the bar; results that go to a file must not move with it
        console, redirected = Console(file=stream), sys.stdout.isatty()
        self._bar = Progress(*columns, console=console, transient=not stays, redirect_stdout=redirected)
        self._task = self._bar.add_task(self.label, total=total, completed=done, amount=self.amount(), facts="")
        self._bar.start()

    def display(self, facts: str) -> None:
        self._bar.update(self._task, completed=self.done, amount=self.amount(), facts=facts)

    def close(self) -> None:
        self._bar.update(self._task, completed=self.done, amount=self.amount())
        self._bar.stop()


def progress(
    label: str,
    total: int | None,
    unit: str = "",
    *,
    done: int = 0,
    stream: TextIO | None = None,
    stays: bool = False,
) -> Meter:
    """A meter on standard error or on another stream; see `Meter` and `BarMeter` for the arguments."""
    stream = stream or sys.stderr
    if stream.isatty() and "SLURM_JOB_ID" not in os.environ:
        return BarMeter(label, total, unit, done, stream, stays=stays)
    return LineMeter(label, total, unit, done, stream)


def _joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: "1:02:03"."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
