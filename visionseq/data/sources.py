"""The sources of loaders: batches as a function of keys (epoch, index), and of nothing else.

Kept apart from the data modules, so that a spawned worker does not import the trainer.
"""

import numpy as np
import torch

from visionseq.data.batch import ImageBatch, PairBatch
from visionseq.data.images import ImageDataset
from visionseq.data.pairs.dataset import PairDataset
from visionseq.data.seeding import seeds_of

_FLIP = 3  # key that keeps the coin of the flip apart from other draws of a sample


class ImageSource:
    """Batches of an image data set, mirrored by a coin that depends on (seed, epoch, index) alone."""

    def __init__(self, dataset: ImageDataset, seed: int, flip: bool = False):
        self.dataset, self.seed, self.flip = dataset, seed, flip

    def __len__(self) -> int:
        return len(self.dataset)

    def fetch(self, keys: np.ndarray) -> ImageBatch:
        batch = self.dataset.batch(keys[:, 1])
        if self.flip:
            coins = seeds_of(self.seed, _FLIP, keys[:, 0], keys[:, 1]) & np.uint64(1)
            rows = torch.from_numpy(coins.nonzero()[0])
            mirrored = self.dataset.mirrored(batch.image.index_select(0, rows), keys[rows.numpy(), 1])
            batch.image.index_copy_(0, rows, mirrored)
        return batch


class PairSource:
    """Batches of pairs; pairs are never augmented (a mirrored image would need mirrored noise)."""

    def __init__(self, dataset: PairDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def fetch(self, keys: np.ndarray) -> PairBatch:
        return self.dataset.batch(keys[:, 1])
