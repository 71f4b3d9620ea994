"""Trains in child processes that are killed by SIGKILL, resumes until the run is done: `kill_runs.py FOLDER RUNS SEED`.

Children are forked from a process that has imported everything and computed nothing, so a run takes a second. Kinds of
kills: at a random Python call of the run, at a random one while a checkpoint is being written, after a random time.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tiny_task import tiny_fit

from visionseq.training.checkpoint_io import AtomicCheckpointIO

CALLS, WRITING, TIMED = "any call", "writing a checkpoint", "timer"


class CallCounter:
    """Counts Python calls; kills this process at call number `fatal`."""

    def __init__(self, fatal: int | None = None):
        self.count, self.fatal = 0, fatal

    def __call__(self, frame, event: str, argument) -> None:
        if event in ("call", "c_call"):
            self.count += 1
            if self.count == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    def within(self, function: Callable) -> Callable:
        """`function`, with the calls counted that it makes."""

        def counted(*arguments, **keywords):
            sys.setprofile(self)
            try:
                return function(*arguments, **keywords)
            finally:
                sys.setprofile(None)

        return counted


def in_child(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Run `work` in a forked process and give the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            status = 0
        finally:
            os._exit(status)
    timer = threading.Timer(kill_after, os.kill, (child, signal.SIGKILL)) if kill_after is not None else None
    if timer:
        timer.start()
    _, status = os.waitpid(child, os.WUNTRACED)
    if timer:
        timer.cancel()
        timer.join()
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a training failed with exit code {os.WEXITSTATUS(status)}")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def training(run: Path, kind: str, fatal: int | None, report: Path | None = None) -> Callable[[], None]:
    """The work of one child: begin or resume, counting calls of a kind and dying at number `fatal`."""

    def work() -> None:
        counter = CallCounter(fatal)
        fit = tiny_fit
        if kind == WRITING:
            AtomicCheckpointIO.save_checkpoint = counter.within(AtomicCheckpointIO.save_checkpoint)
        elif kind == CALLS:
            fit = counter.within(tiny_fit)
        fit(run, ckpt_path="last")
        if report is not None:
            report.write_text(str(counter.count))

    return work


def main(folder: Path, runs: int, seed: int) -> None:
    """Write `uninterrupted` and `killed_<i>` below `folder`, and what was done to `kills.json`."""
    chance, totals = random.Random(seed), {}
    for kind in (CALLS, WRITING):
        run, report = folder / f"counted {kind}", folder / "count"
        in_child(training(run, kind, None, report))
        totals[kind] = int(report.read_text())
    start = time.monotonic()
    in_child(training(folder / "uninterrupted", TIMED, None))
    duration = time.monotonic() - start
    kills = []
    for number in range(runs):
        run, kind = folder / f"killed_{number}", (CALLS, WRITING, TIMED)[number % 3]
        times = chance.randint(1, 3)
        while times > 0:
            at = chance.uniform(0, duration) if kind == TIMED else chance.randint(1, totals[kind])
            if kind == TIMED:
                ended_by = in_child(training(run, kind, None), kill_after=at)
            else:
                ended_by = in_child(training(run, kind, at))
            times -= ended_by == signal.SIGKILL
            kills.append({"run": number, "kind": kind, "at": at, "killed": ended_by == signal.SIGKILL})
            if not ended_by:  # done before the moment came: nothing is left to kill but a new run
                shutil.rmtree(run)
        in_child(training(run, TIMED, None))
    (folder / "kills.json").write_text(json.dumps(kills))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
