"""Progress of a training run: a bar on a terminal, plain lines everywhere else (files, SLURM, CI)."""

import os
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


def training_progress() -> ProgressBar:
    """The bar where standard output is a terminal of one process, lines otherwise."""
    interactive = sys.stdout.isatty() and "SLURM_JOB_ID" not in os.environ
    return TerminalProgress() if interactive else LineProgress()


class _Progress(ProgressBar):
    """Counts updates, images and seconds of this call of fit."""

    def __init__(self):
        super().__init__()
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start, self._start_step, self._images = time.monotonic(), trainer.global_step, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch) * trainer.world_size
        if self._enabled:
            self._show(trainer, outputs)

    def _show(self, trainer: Trainer, outputs: Any) -> None:
        raise NotImplementedError

    def _rate(self) -> float:
        return self._images / max(time.monotonic() - self._start, 1e-9)

    def _seconds_left(self, trainer: Trainer) -> float | None:
        done = trainer.global_step - self._start_step
        if not done or trainer.max_steps < 0:
            return None
        return (trainer.max_steps - trainer.global_step) * (time.monotonic() - self._start) / done


class LineProgress(_Progress):
    """At most one line in ten seconds, and one at the end: step, loss, learning rate, images per second, ETA."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._last_line = time.monotonic()

    def _show(self, trainer: Trainer, outputs: Any) -> None:
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES or trainer.global_step == trainer.max_steps:
            self._last_line = now
            self._line(trainer, outputs)

    def _line(self, trainer: Trainer, outputs: Any) -> None:
        left = self._seconds_left(trainer)
        eta = "unknown" if left is None else _clock(left)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        sys.stdout.write(
            f"step {trainer.global_step}/{trainer.max_steps}  loss {_loss(outputs):.5g}  lr {rate:.3g}  "
            f"{self._rate():.0f} images/s  ETA {eta}\n"
        )
        sys.stdout.flush()


class TerminalProgress(_Progress):
    """A rich bar with loss, images per second, elapsed and remaining time."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._shown = 0.0
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[rate]} images/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stdout),
            disable=not self._enabled,
        )
        self._bar.start()
        total = max(trainer.max_steps, trainer.global_step)
        self._task = self._bar.add_task("fit", total=total, completed=trainer.global_step, loss="-", rate="-")

    def _show(self, trainer: Trainer, outputs: Any) -> None:
        now = time.monotonic()
        if now - self._shown > 0.2 or trainer.global_step == trainer.max_steps:
            self._shown = now
            fields = {"loss": f"{_loss(outputs):.5g}", "rate": f"{self._rate():.0f}"}
            self._bar.update(self._task, completed=trainer.global_step, **fields)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if hasattr(self, "_bar"):
            self._bar.stop()


def _loss(outputs: Any) -> float:
    loss = outputs["loss"] if isinstance(outputs, dict) else outputs
    return float("nan") if loss is None else float(loss)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
