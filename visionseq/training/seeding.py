"""The generators of a step are set from (seed, batch, rank) alone, so a resumed run needs no generator state.

A batch is known by its number since the beginning of the run. Epoch and place in the epoch would not do: a training
that ends at `max_steps` in mid-epoch counts that epoch as done, so a longer training that resumes from it would count
others.
"""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from visionseq.data.seeding import seed_of


def batches_done(trainer: Trainer) -> int:
    """Training batches that the run has finished, over all restarts; within a step, the number of that batch."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.processed


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
