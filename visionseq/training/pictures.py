"""Pictures that the model draws, in the log and in the run folder."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from visionseq import viz
from visionseq.training.ema import EMA
from visionseq.training.sharding import is_sharded
from visionseq.training.trainer_parts import find_callback

SAMPLES = "samples"


class Pictures(Callback):
    """Writes the images of the task's `sample_images()`, drawn with the averaged weights in eval mode.

    A task without that method has no pictures. The images, [N, C, H, W] in [-1, 1] or uint8, go to
    samples/step_00001000.png and the like below the trainer's root folder, and to TensorBoard.

    Args:
        every_n_steps: updates between two pictures; the last update has one as well.
        columns: images per row of the grid; None takes the task's `sample_columns`, or a square.
    """

    def __init__(self, every_n_steps: int = 1000, columns: int | None = None):
        self.every_n_steps, self.columns = every_n_steps, columns
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._step % self.every_n_steps == 0 or self._step == trainer.max_steps:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sample_images = getattr(pl_module, "sample_images", None)
        if sample_images is None or not (trainer.is_global_zero or is_sharded(trainer)):
            return
        ema = find_callback(trainer, EMA)
        training = [module for module in pl_module.modules() if module.training]
        pl_module.eval()
        with torch.random.fork_rng(), ema.average.shown() if ema else nullcontext():
            images = sample_images()
        for module in training:
            module.training = True
        if trainer.is_global_zero:
            self._write(trainer, pl_module, images)

    def _write(self, trainer: Trainer, pl_module: LightningModule, images: Tensor) -> None:
        picture = viz.image_grid(images, columns=self.columns or getattr(pl_module, "sample_columns", None))
        viz.save_png(picture, Path(trainer.default_root_dir) / SAMPLES / f"step_{self._step:08d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", np.asarray(picture), self._step, dataformats="HWC")
