"""A task that trains in milliseconds and would show every inexactness: dropout, keyed noise, a schedule, validation."""

import os
import signal
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from visionseq.data.image_data import ImageData
from visionseq.data.images import MemoryImages
from visionseq.data.seeding import GlobalDraw, batches_done, generator_for
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow.model import EDMVelocity
from visionseq.rectified_flow.residual_mlp import ResidualMLP
from visionseq.training import fit

SAMPLES, BATCH = 70, 16  # the stream's borders fall within batches


class TinyTask(LightningModule):
    """A velocity model of 4x4 images, with dropout on the images so that the generators of the step matter."""

    def __init__(self, optimizer: OptimizerConfig | None = None, seed: int = 0, dropout: float = 0.1):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.model = EDMVelocity(ResidualMLP(img_resolution=4, in_channels=1, hidden=16, num_blocks=1))
        self.optimizer_config = optimizer or OptimizerConfig(lr=1e-2, warmup_steps=5, schedule="cosine")
        self.seed, self.dropout = seed, dropout

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, rank, world = nn.functional.dropout(batch.image, self.dropout), self.global_rank, self.trainer.world_size
        draw = GlobalDraw(self.seed, batches_done(self.trainer), rank=rank, world=world)
        z = draw(lambda n, generator: torch.randn(n, 1, 4, 4, generator=generator), len(batch)).to(x)
        t = draw(lambda n, generator: torch.rand(n, generator=generator) * 0.9 + 0.05, len(batch)).to(x)
        return self._loss(x, z, t)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self._evaluation_loss(batch), sync_dist=True, batch_size=len(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", self._evaluation_loss(batch), sync_dist=True, batch_size=len(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.model(batch.image, torch.full((len(batch),), 0.5))

    def sample_images(self) -> Tensor:
        return self.model.sample(torch.ones(2, 1, 4, 4), steps=2)

    def configure_optimizers(self) -> dict[str, Any]:
        return self.optimizer_config.build(self.model.parameters(), self.trainer.max_steps)

    def _evaluation_loss(self, batch: Any) -> Tensor:
        """With noise and time keyed by the sample, so that a batch may be spread over processes in any way."""
        generators = [generator_for(10_000, int(index)) for index in batch.index]
        z = torch.stack([torch.randn(1, 4, 4, generator=generator) for generator in generators]).to(batch.image)
        t = torch.cat([torch.rand(1, generator=generator) * 0.9 + 0.05 for generator in generators]).to(batch.image)
        return self._loss(batch.image, z, t)

    def _loss(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        x_t = (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * z
        return (self.model(x_t, t) - (z - x)).square().mean()


class Interrupt(Callback):
    """Sends a signal to this process in the middle of a step."""

    def __init__(self, step: int, number: int = int(signal.SIGINT), hook: str = "on_before_backward"):
        self.step, self.number, self.sent = step, number, False
        setattr(self, hook, self.send)

    def send(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


def tiny_data(batch_size: int = BATCH) -> ImageData:
    """70 random images for training, 23 for validation: its last batch is short, and odd."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (SAMPLES, 1, 4, 4), dtype=np.uint8))
    return ImageData(MemoryImages(pixels), batch_size, eval_dataset=MemoryImages(pixels[:23]), eval_batch_size=8)


DEFAULTS = {"max_steps": 60, "checkpoint_every": 7, "log_every": 3, "picture_every": 25, "ema": 0.9, "progress": False}


def tiny_fit(run_dir, task: TinyTask | None = None, **keywords):
    """`fit` of the tiny task on the CPU with small intervals."""
    options = {"accelerator": "cpu", "check_val_every_n_epoch": None, "val_check_interval": 10}
    return fit(task or TinyTask(), tiny_data(), run_dir=run_dir, **{**DEFAULTS, **options, **keywords})
