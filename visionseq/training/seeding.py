"""The generators of a step are set from (seed, epoch, batch, rank) alone, so a resumed run needs no generator state."""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from visionseq.data.seeding import seed_of


class StepSeed(Callback):
    """Seeds torch, numpy and python before every training batch; dropout and the like draw from them.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed = seed_of(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
