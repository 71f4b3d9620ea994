"""metrics.csv of a run: one row per logged step, the same after any number of kills and resumes.

Rows are written before the checkpoint of their step; on a resume, rows beyond the checkpoint are cut off.
"""

import csv
import os
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionseq.files import atomic_write


class MetricsFile(Callback):
    """Appends what the task logs, with step and learning rate.

    Args:
        path: the file.
        every_n_steps: updates between two rows of training metrics; validation has rows of its own.
    """

    def __init__(self, path: str | os.PathLike, every_n_steps: int = 50):
        self.path, self.every_n_steps = Path(path), every_n_steps
        self._rows: list[dict[str, Any]] = []
        self._step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        kept = [row for row in _read(self.path) if int(row["step"]) <= self._step] if self.path.is_file() else []
        self._rows = kept if self._step else []
        self._rewrite(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            if self._step % self.every_n_steps == 0 or self._step == trainer.max_steps:
                rate = trainer.optimizers[0].param_groups[0]["lr"]
                self._append(trainer, {"lr": rate, **_logged(trainer, "train/")})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._append(trainer, _logged(trainer, "val/"))

    def _append(self, trainer: Trainer, values: dict[str, float]) -> None:
        row = {"step": str(trainer.global_step), **{name: repr(float(value)) for name, value in values.items()}}
        new_column = any(name not in self._columns() for name in row)
        self._rows.append(row)
        if new_column:
            self._rewrite(trainer)
        elif trainer.is_global_zero:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns()).writerow(row)

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self._rows for name in row)) or ["step"]

    def _rewrite(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            with atomic_write(self.path, "w") as file:
                writer = csv.DictWriter(file, self._columns(), lineterminator="\r\n")
                writer.writeheader()
                writer.writerows(self._rows)


def _logged(trainer: Trainer, prefix: str) -> dict[str, float]:
    names = sorted(name for name in trainer.callback_metrics if name.startswith(prefix) and not name.endswith("_step"))
    return {name.removesuffix("_epoch"): trainer.callback_metrics[name].item() for name in names}


def _read(path: Path) -> list[dict[str, str]]:
    """Complete rows of an earlier part of the run; a last line that a kill cut short is dropped."""
    with open(path, newline="", encoding="utf-8") as file:
        text = file.read()
    complete = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(complete.splitlines())
    return [{name: value for name, value in row.items() if value not in (None, "")} for row in rows]
