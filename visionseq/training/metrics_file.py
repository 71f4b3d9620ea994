"""metrics.csv of a run: one row per logged step, the same after any number of kills and resumes.

Rows are written before the checkpoint of their step; on a resume, rows beyond the checkpoint are cut off.
"""

import csv
import io
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionseq.files import atomic_write, named_write_errors

METRICS = "metrics.csv"


class MetricsFile(Callback):
    """Appends loss, learning rate and the values that the task logs to metrics.csv below the trainer's root folder.

    The loss that a training step returns is logged, as are other scalars of a dict that it returns. A task needs no
    `self.log` there, which would cost a millisecond at every step.

    Args:
        every_n_steps: updates between two rows of training metrics; each validation adds a row.
    """

    def __init__(self, every_n_steps: int = 50):
        self.every_n_steps = every_n_steps
        self._rows: list[dict[str, str]] = []
        self._columns: list[str] = []
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        path = _path(trainer)
        earlier = read_metrics(path) if self._step and path.is_file() else []
        self._rows = [row for row in earlier if int(row["step"]) <= self._step]
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        self._rewrite(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._step % self.every_n_steps == 0 or self._step == trainer.max_steps:
            values = {"lr": trainer.optimizers[0].param_groups[0]["lr"], **_returned(trainer, outputs)}
            for logger in trainer.loggers:
                logger.log_metrics(values, self._step)
            self._append(trainer, {**values, **_logged(trainer, "train/", "_step", "_epoch")})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._append(trainer, _logged(trainer, "val/", "_epoch", "_step"))

    def _append(self, trainer: Trainer, values: dict[str, float]) -> None:
        row = {"step": str(trainer.global_step), **{name: repr(float(value)) for name, value in values.items()}}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if new:
            self._rewrite(trainer)
        elif trainer.is_global_zero:
            path = _path(trainer)
            with named_write_errors(path), open(path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            with atomic_write(_path(trainer), "wb") as file:
                file.write(_csv_text(self._columns, self._rows).encode())


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The complete rows, each without its empty cells; a last line that a kill cut short is dropped."""
    with open(path, newline="", encoding="utf-8") as file:
        text = file.read()
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [{name: value for name, value in row.items() if value not in (None, "")} for row in rows]


def _csv_text(columns: list[str], rows: list[dict[str, str]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _returned(trainer: Trainer, outputs: Any) -> dict[str, float]:
    """The loss and other scalars that the step returned, averaged over processes."""
    scalars = {name: value.detach() for name, value in (outputs or {}).items() if value.numel() == 1}
    if "loss" in scalars:
        scalars["loss"] = scalars["loss"] * trainer.accumulate_grad_batches
    return {f"train/{name}": float(trainer.strategy.reduce(value.clone())) for name, value in scalars.items()}


def _logged(trainer: Trainer, prefix: str, suffix: str, other: str) -> dict[str, float]:
    """The values that the task logged under `prefix`; of one logged per step and per epoch, the one with `suffix`.

    Means over an epoch are kept for validations alone: those over training steps would not survive a restart.
    """
    names = sorted(name for name in trainer.callback_metrics if name.startswith(prefix) and not name.endswith(other))
    return {name.removesuffix(suffix): trainer.callback_metrics[name].item() for name in names}


def _path(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / METRICS
