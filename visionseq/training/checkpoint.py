"""Checkpoints that are always complete: `last.ckpt` and the one before it, `previous.ckpt`.

A checkpoint is written to a temporary file, synced and renamed, so a run killed at any moment leaves whole files. It is
written where a run can be continued to the bit: after an update and its log entries, and after the validation that the
update may have triggered. Ctrl-C and SIGTERM finish the batch at hand, write a checkpoint and stop.
"""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from visionseq.errors import CheckpointError
from visionseq.files import atomic_write
from visionseq.nn.weights import read_checkpoint

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's reader and writer of checkpoints, complete or absent on disk, and never unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        with atomic_write(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_training_checkpoint(path)


class Checkpoints(Callback):
    """Writes `folder/last.ckpt` every `every_n_steps` updates, at the end, and when the run is asked to stop.

    Args:
        folder: where checkpoints are kept.
        every_n_steps: updates between two checkpoints.
    """

    def __init__(self, folder: str | os.PathLike, every_n_steps: int = 1000):
        self.folder, self.every_n_steps = Path(folder), every_n_steps
        self.stop_signal: int | None = None
        self._saved_step = -1
        self._due_after_validation = False
        self._handlers: dict[int, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        finished = trainer.global_step > self._saved_step and not _accumulating(trainer)
        due = finished and trainer.global_step % self.every_n_steps == 0
        if due and _validates_next(trainer):
            self._due_after_validation = True
        elif due:
            self._save(trainer)
        if self.stop_signal is not None and not _accumulating(trainer) and not self._due_after_validation:
            self._stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due_after_validation:
            self._due_after_validation = False
            self._save(trainer)
            if self.stop_signal is not None:
                self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > self._saved_step:
            self._save(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Room and class names and plain values: enough to rebuild the model, and no Python path.
        checkpoint["visionseq"] = pl_module.model.description.to_json()

    def _save(self, trainer: Trainer) -> None:
        last = self.folder / LAST
        if trainer.is_global_zero and last.is_file():
            # A second name for the same file: there is no moment without a `last`.
            temporary = self.folder / f".{PREVIOUS}.part"
            temporary.unlink(missing_ok=True)
            os.link(last, temporary)
            os.replace(temporary, self.folder / PREVIOUS)
        trainer.save_checkpoint(last)
        self._saved_step = trainer.global_step

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self.stop_signal is not None:  # asked twice: do not wait for the batch
            raise KeyboardInterrupt
        self.stop_signal = number

    def _stop(self, trainer: Trainer) -> None:
        if trainer.global_step > self._saved_step:
            self._save(trainer)
        raise KeyboardInterrupt if self.stop_signal == signal.SIGINT else SIGTERMException


def last_checkpoint(folder: str | os.PathLike) -> Path | None:
    """The newest checkpoint of a folder, or None."""
    return next((Path(folder, name) for name in (LAST, PREVIOUS) if Path(folder, name).is_file()), None)


def read_training_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """A checkpoint that training can be resumed from; raises `CheckpointError` for weights alone or damaged files."""
    path = Path(path)
    hint = "resume from a run's checkpoints/last.ckpt, or start a new run from these weights with `init`"
    if path.suffix == ".safetensors" or path.is_dir():
        raise CheckpointError(f"{path} holds weights only: {hint}")
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not {"loops", "optimizer_states", "state_dict"} <= checkpoint.keys():
        raise CheckpointError(f"{path} holds weights only, no state of optimiser and data: {hint}")
    return checkpoint


def _accumulating(trainer: Trainer) -> bool:
    return trainer.fit_loop._should_accumulate()


def _validates_next(trainer: Trainer) -> bool:
    loop = trainer.fit_loop
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
