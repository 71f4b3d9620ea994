"""Pictures of what the model draws, in the log and in the run folder."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from visionseq import viz
from visionseq.training.ema import EMA


class Pictures(Callback):
    """Writes what the task's `sample_images()` returns, drawn with the averaged weights in eval mode.

    Args:
        folder: where `step_00001000.png` and the like go.
        every_n_steps: updates between two pictures; there is one at the end as well.
        columns: images per row of the grid.
    """

    def __init__(self, folder: str | os.PathLike, every_n_steps: int = 1000, columns: int | None = None):
        self.folder, self.every_n_steps, self.columns = Path(folder), every_n_steps, columns
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            if self._step % self.every_n_steps == 0 or self._step == trainer.max_steps:
                self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not hasattr(pl_module, "sample_images"):
            return
        ema = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)
        was_training = pl_module.training
        pl_module.eval()
        # The generators of this step were set at its start: a picture must not move them for what follows.
        with torch.random.fork_rng(), ema.averaged() if ema else nullcontext():
            images = pl_module.sample_images()
        pl_module.train(was_training)
        columns = self.columns or getattr(pl_module, "sample_columns", None)
        picture = viz.image_grid(images, columns=columns)
        viz.save_png(picture, self.folder / f"step_{trainer.global_step:08d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", np.asarray(picture), trainer.global_step, dataformats="HWC")




