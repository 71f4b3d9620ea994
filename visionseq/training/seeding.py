"""The generators of a step are set from (seed, batch, rank) alone, so a resumed run needs no generator state."""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from visionseq.data.seeding import batches_done, seed_of


class StepSeed(Callback):
    """Seeds torch, numpy and python before every training batch; dropout and the like draw from them.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed = seed_of(self.seed, batches_done(trainer), trainer.global_rank)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # before that, each call would be queued together with a traceback
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
