"""When checkpoints are written, and how a run stops.

A checkpoint is written where the run can be continued to the bit: after an update and its consequences - average, log
entries, pictures, the validation that it may have triggered. Ctrl-C, SIGTERM and SIGHUP let the current update
finish, write a checkpoint and stop. An error between two updates, as errors of the data are, writes one as well.
Weights that are not finite are never written, unless that was asked for.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from visionseq.errors import TrainingError, WriteError
from visionseq.saving.weights import not_finite, shorten
from visionseq.training.checkpoint_io import CHECKPOINTS, LAST
from visionseq.training.trainer_parts import find_callback, model_of

# From Ctrl-C, a scheduler, a closed terminal; Windows has no SIGHUP.
_STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Checkpoints(Checkpoint):
    """Writes `checkpoints/last.ckpt` below the trainer's root folder.

    Args:
        every_n_steps: updates between two checkpoints; the last update has one as well.
        check_finite: raise `TrainingError` instead of writing weights that are not finite.
    """

    def __init__(self, every_n_steps: int = 1000, check_finite: bool = True):
        self.every_n_steps, self.check_finite = every_n_steps, check_finite
        self.seconds = 0.0  # of training, over all restarts
        self.saved_step = 0  # the update of the newest checkpoint; 0 before the first
        self._step = 0
        self._due = self._clean = False
        self._stop: int | None = None
        self._clock = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = self.saved_step = trainer.global_step
        self._due, self._clean, self._stop = False, False, None
        self._clock = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            # What is ignored stays so: nohup lets a run outlive its terminal in this way.
            for number in (number for number in _STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def on_train_batch_start(self, *_: Any) -> None:
        self._clean = False  # half a batch cannot be continued

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        stepped = trainer.global_step > self._step
        self._step = trainer.global_step
        if not stepped:  # in the middle of an accumulation
            return
        self._clean = True
        self._due |= self._step % self.every_n_steps == 0 or self._step == trainer.max_steps
        if not _validates_next(trainer):
            self._save_or_stop(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clean = False  # half a validation cannot be continued

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._clean = True
            self._save_or_stop(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()
        if self._step > self.saved_step:  # stopped early, by time or by another callback
            self._save(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()
        # With several processes the others may be anywhere, and saving is done by all of them together.
        if self._clean and self._step > self.saved_step and trainer.world_size == 1:
            with suppress(TrainingError, WriteError):  # the first error matters more
                self._save(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Room and class names and plain values: enough to rebuild the model, and no Python path.
        checkpoint["visionseq"] = model_of(pl_module).description.to_json()

    def state_dict(self) -> dict[str, float]:
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.seconds = state_dict["seconds"]

    def _save_or_stop(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = self._stop is not None
        if trainer.world_size > 1:  # a signal may reach the processes in different steps
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if self._due or stop:
            self._save(trainer, pl_module)
        if stop:
            raise KeyboardInterrupt if self._stop == signal.SIGINT else SystemExit(128 + (self._stop or signal.SIGTERM))

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due = self._clean = False  # no second attempt after an error
        if self.check_finite:
            self._check_weights(trainer, pl_module)
        trainer.save_checkpoint(_folder(trainer) / LAST, weights_only=False)
        self.saved_step, self._clean = self._step, True

    def _check_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = model_of(pl_module)
        broken = not_finite(model, {**dict(model.named_parameters()), **dict(model.named_buffers())})
        is_broken = bool(broken)
        if trainer.world_size > 1:  # sharded weights may be broken in another process
            is_broken = trainer.strategy.reduce_boolean_decision(is_broken, all=False)
        if is_broken:
            names = f" ({shorten(broken)})" if broken else ""
            raise TrainingError(f"weights are not finite after update {self._step}{names}; {way_on(trainer)}")

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self._stop == number == signal.SIGINT:  # a second Ctrl-C does not wait for the update
            raise KeyboardInterrupt
        if self._stop is None:
            # Not through a buffered stream, which may be in use where the signal strikes.
            os.write(2, b"\nstopping after this update; a second Ctrl-C stops at once\n")
            self._stop = number

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def way_on(trainer: Trainer) -> str:
    """The ways on after a loss or weights that are not finite, for the error that stops the training."""
    checkpoints = find_callback(trainer, Checkpoints)
    last = "no checkpoint exists"
    if checkpoints is not None and checkpoints.saved_step:
        last = f"the last checkpoint, of update {checkpoints.saved_step}, is {_folder(trainer) / LAST}"
    return (
        f"{last}; a lower learning rate or gradient clipping may help, and check_finite=False (--check_finite false) "
        "trains on regardless"
    )


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / CHECKPOINTS


def _validates_next(trainer: Trainer) -> bool:
    """Whether a validation follows this batch: saved before it, a run would resume after it, without its results."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None  # the loop makes it before its first batch
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
