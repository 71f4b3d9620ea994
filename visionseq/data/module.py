"""Data modules: a training stream that resumes exactly from one integer, and evaluation loaders.

The position counts the samples that the trainer consumed, not those that workers fetched ahead. It travels in
Lightning's checkpoints as the module's `state_dict`. After a restart in mid-epoch Lightning takes only the rest of the
epoch; the stream goes on from the position.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
from lightning import LightningDataModule

from visionseq.data.loader import EvalLoader, LoaderOptions, Source, StreamLoader
from visionseq.data.sampler import ClassBalancedOrder, Order, SequentialSampler, ShuffledOrder, StreamSampler, spread
from visionseq.data.seeding import batches_done
from visionseq.errors import ConfigError


class DataModule(LightningDataModule):
    """Base of the data modules of all modalities; a subclass provides the sources.

    Args:
        batch_size: samples of the global batch, summed over processes.
        eval_batch_size: the same for validation, test and prediction; None: batch_size.
        loader: workers, prefetch, pinning.
        limit: use only so many samples, spread evenly over the data set.
        samples_per_epoch: samples of an epoch of the training; None: the data set's length. The stream has no borders.
        class_balanced: draw every class equally often.
        seed: keys the order and the augmentation.
    """

    def __init__(
        self,
        batch_size: int,
        eval_batch_size: int | None = None,
        loader: LoaderOptions | None = None,
        limit: int | None = None,
        samples_per_epoch: int | None = None,
        class_balanced: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        if batch_size < 1 or (limit is not None and limit < 1):
            raise ConfigError(f"batch_size {batch_size}, limit {limit}: expected positive numbers")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.loader_options = loader or LoaderOptions()
        self.limit, self.samples_per_epoch = limit, samples_per_epoch
        self.class_balanced, self.seed = class_balanced, seed
        self._stream: StreamLoader | None = None
        self._eval_loaders: list[EvalLoader] = []
        self._start, self._batches_before = 0, 0
        self._loaded = False

    @abstractmethod
    def train_source(self) -> Source:
        """The source of the training samples."""

    @abstractmethod
    def eval_source(self) -> Source | None:
        """The source of validation, test and prediction; None: without such samples."""

    @property
    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """Plain values that inference needs."""

    def train_labels(self) -> np.ndarray | None:
        """int64 [n] classes of the training samples, for class balance."""
        return None

    def train_order(self, source: Source) -> Order:
        """The order of the training samples; raises `ConfigError` for class balance without classes."""
        indices = spread(len(source), self.limit)
        if not self.class_balanced:
            return ShuffledOrder(indices, self.seed)
        labels = self.train_labels()
        if labels is None:
            raise ConfigError("class_balanced: the data set has no labels")
        return ClassBalancedOrder(indices, labels[indices], self.seed)

    @property
    def position(self) -> int:
        """Training samples consumed so far, over all processes."""
        if self._stream is None:
            return self._start
        if self.trainer is None:
            return self._stream.position
        # Only finished batches count: one that is interrupted half-way is computed again after a restart.
        return self._start + (batches_done(self.trainer) - self._batches_before) * self.batch_size

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next training begin at `state["position"]` samples; raises `ConfigError` for anything else."""
        position = state.get("position")
        if not isinstance(position, int) or position < 0:
            raise ConfigError(f"state of the data: position {position!r}, expected a number of samples")
        self._close()
        self._start, self._loaded = position, True

    def setup(self, stage: str) -> None:
        # A trainer before its first batch starts a new run, unless a position was loaded for it.
        if stage == "fit" and not self._loaded and self.trainer is not None and batches_done(self.trainer) == 0:
            self._close()
            self._start = 0

    def train_dataloader(self) -> StreamLoader:
        self._start = self.position
        self._close()
        self._loaded = False
        self._batches_before = 0 if self.trainer is None else batches_done(self.trainer)
        source = self.train_source()
        order, world = self.train_order(source), self._world()
        # An epoch has whole updates: Lightning would make a short one of the batches that are left over at its end.
        whole = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        batches = max((self.samples_per_epoch or len(order)) // self.batch_size // whole, 1) * whole

        def sampler_at(position: int) -> StreamSampler:
            return StreamSampler(order, self.batch_size, position, *world)

        sampler_at(self._start)  # raises its errors here, not in the first step
        self._stream = StreamLoader(
            source, sampler_at, batches, self._start, self.loader_options, consumed=lambda: self.position
        )
        return self._stream

    def val_dataloader(self) -> EvalLoader | list:
        source = self.eval_source()
        return [] if source is None else self._eval_loader(source)

    def test_dataloader(self) -> EvalLoader | list:
        return self.val_dataloader()

    def predict_dataloader(self) -> EvalLoader:
        return self._eval_loader(self.eval_source() or self.train_source())

    def teardown(self, stage: str) -> None:
        self._start = self.position
        self._close()

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    def _eval_loader(self, source: Source) -> EvalLoader:
        sampler = SequentialSampler(spread(len(source), self.limit), self.eval_batch_size, *self._world())
        self._eval_loaders.append(EvalLoader(source, sampler, self.loader_options))
        return self._eval_loaders[-1]

    def _world(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _close(self) -> None:
        for loader in [self._stream, *self._eval_loaders]:
            if loader is not None:
                loader.close()
        self._stream, self._eval_loaders = None, []
