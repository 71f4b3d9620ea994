"""Progress of a run: a bar on a terminal, plain lines everywhere else (files, SLURM, CI)."""

import os
import sys
import time
from collections.abc import Sized
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from visionseq.data.batch import Batch

SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.2


def training_progress() -> ProgressBar:
    """The bar where standard output is a terminal, lines otherwise and under SLURM."""
    return TerminalProgress() if sys.stdout.isatty() and "SLURM_JOB_ID" not in os.environ else LineProgress()


class _Progress(ProgressBar):
    """Counts updates, samples and seconds of this call of the trainer; a subclass shows them."""

    interval = SECONDS_BETWEEN_LINES

    def __init__(self):
        super().__init__()
        self._enabled = True
        self._shown = self._start = time.monotonic()
        self._first_step = self._samples = 0
        self._unit = Batch.unit

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown = self._start = time.monotonic()
        self._first_step, self._samples = trainer.global_step, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._samples += (len(batch) if isinstance(batch, Sized) else 1) * trainer.world_size
        self._unit = getattr(batch, "unit", Batch.unit)
        last = trainer.global_step == trainer.max_steps
        if self._is_time(last):
            self.show_training(trainer, _loss(outputs) * trainer.accumulate_grad_batches)

    def _evaluated(self, trainer: Trainer, batch_idx: int, batches: int | float) -> None:
        if self._is_time(False):
            self.show_evaluation(trainer.state.stage.value, batch_idx + 1, batches)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, _: Any, __: Any, batch_idx: int, *___) -> None:
        self._evaluated(trainer, batch_idx, sum(trainer.num_val_batches))

    def on_test_batch_end(self, trainer: Trainer, pl_module: Any, _: Any, __: Any, batch_idx: int, *___) -> None:
        self._evaluated(trainer, batch_idx, sum(trainer.num_test_batches))

    def on_predict_batch_end(self, trainer: Trainer, pl_module: Any, _: Any, __: Any, batch_idx: int, *___) -> None:
        self._evaluated(trainer, batch_idx, sum(trainer.num_predict_batches))

    def show_training(self, trainer: Trainer, loss: float) -> None:
        raise NotImplementedError

    def show_evaluation(self, stage: str, done: int, total: int | float) -> None:
        raise NotImplementedError

    def _is_time(self, last: bool) -> bool:
        now = time.monotonic()
        if not self._enabled or (now - self._shown < self.interval and not last):
            return False
        self._shown = now
        return True

    def _rate(self) -> str:
        rate = self._samples / max(time.monotonic() - self._start, 1e-9)
        return f"{rate:.{0 if rate >= 10 else 2}f} {self._unit}/s"

    def _seconds_left(self, trainer: Trainer) -> float | None:
        done = trainer.global_step - self._first_step
        if not done or trainer.max_steps < 0:
            return None
        return (trainer.max_steps - trainer.global_step) * (time.monotonic() - self._start) / done


class LineProgress(_Progress):
    """At most one line in ten seconds, and one at the end: step, loss, learning rate, samples per second, ETA."""

    def show_training(self, trainer: Trainer, loss: float) -> None:
        left = self._seconds_left(trainer)
        total = f"/{trainer.max_steps}" if trainer.max_steps >= 0 else ""
        _write_line(
            f"step {trainer.global_step}{total}  loss {loss:.5g}  lr {_learning_rate(trainer):.3g}  "
            f"{self._rate()}  ETA {'unknown' if left is None else _clock(left)}"
        )

    def show_evaluation(self, stage: str, done: int, total: int | float) -> None:
        _write_line(f"{stage}  batch {done}/{total}")


class TerminalProgress(_Progress):
    """A rich bar with loss, learning rate, samples per second, elapsed and remaining time."""

    interval = _SECONDS_BETWEEN_FRAMES

    def __init__(self):
        super().__init__()
        self._bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        total = trainer.max_steps if trainer.max_steps >= 0 else None
        self._open("step", total, trainer.global_step)

    def show_training(self, trainer: Trainer, loss: float) -> None:
        facts = f"loss {loss:.5g}  lr {_learning_rate(trainer):.3g}  {self._rate()}"
        self._bar.update(self._task, completed=trainer.global_step, facts=facts)

    def show_evaluation(self, stage: str, done: int, total: int | float) -> None:
        if self._bar is None:
            self._open(stage, total, 0)
        if self._stage == stage:  # a validation within a training leaves the training's bar as it is
            self._bar.update(self._task, completed=done)

    def on_train_end(self, *_: Any) -> None:
        self._close()

    on_exception = on_test_end = on_predict_end = on_train_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._close()

    def _open(self, stage: str, total: int | float | None, done: int) -> None:
        columns = (
            TextColumn("{task.description} {task.completed:.0f}/{task.fields[last]}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._stage, self._bar = stage, Progress(*columns, console=Console(file=sys.stdout), disable=not self._enabled)
        self._bar.start()
        self._task = self._bar.add_task(stage, total=total, completed=done, last=total or "?", facts="")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _loss(outputs: Any) -> float:
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return float("nan") if loss is None else float(loss)


def _learning_rate(trainer: Trainer) -> float:
    return trainer.optimizers[0].param_groups[0]["lr"]


def _write_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
