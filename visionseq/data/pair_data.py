"""The data module of reflow pairs."""

from typing import Any

import numpy as np

from visionseq.data.loader import LoaderOptions, Source
from visionseq.data.module import DataModule
from visionseq.data.pairs.dataset import PairDataset
from visionseq.data.pairs.opening import open_pairs
from visionseq.data.sources import PairSource


class PairData(DataModule):
    """Reflow pairs as `PairBatch`.

    Args:
        path: folder, zip or shards with the pairs to train on.
        batch_size: samples of the global batch, summed over processes.
        eval_path: pairs for validation, test and prediction.
        in_memory: hold shards in memory; None: where they are less than 1 GB.
        eval_batch_size: the batch of validation, test and prediction; None: batch_size.
        loader: workers, prefetch, pinning.
        limit: use only so many pairs, spread evenly.
        samples_per_epoch: pairs of an epoch of the training; None: the number of pairs.
        class_balanced: draw every class equally often.
        seed: keys the order.
    """

    def __init__(
        self,
        path: str,
        batch_size: int,
        eval_path: str | None = None,
        in_memory: bool | None = None,
        eval_batch_size: int | None = None,
        loader: LoaderOptions | None = None,
        limit: int | None = None,
        samples_per_epoch: int | None = None,
        class_balanced: bool = False,
        seed: int = 0,
    ):
        super().__init__(batch_size, eval_batch_size, loader, limit, samples_per_epoch, class_balanced, seed)
        self.path, self.eval_path, self.in_memory = path, eval_path, in_memory
        self._pairs: dict[str, PairDataset] = {}

    @property
    def dataset(self) -> PairDataset:
        """The pairs to train on, opened when they are first needed."""
        return self._open(self.path)

    def train_source(self) -> Source:
        return PairSource(self.dataset)

    def eval_source(self) -> Source | None:
        return None if self.eval_path is None else PairSource(self._open(self.eval_path))

    def train_labels(self) -> np.ndarray | None:
        return None if self.dataset.labels is None else self.dataset.labels.numpy()

    @property
    def preprocessing(self) -> dict[str, Any]:
        return self.dataset.preprocessing

    def _open(self, path: str) -> PairDataset:
        if path not in self._pairs:
            self._pairs[path] = open_pairs(path, self.in_memory)
        return self._pairs[path]
