"""Which samples a batch holds: a pure function of a position in an endless stream.

The stream is one order of the data set after another, each a seeded permutation; the position counts samples and is the
whole state. Rank r of W takes rows r::W of every global batch, so the global batches do not depend on W.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from visionseq.data.seeding import seed_of
from visionseq.errors import ConfigError

_ORDER, _SHUFFLE = 1, 2  # keys that keep the random orders of one seed apart


class Order(Protocol):
    """What the epochs of a stream look like."""

    def __len__(self) -> int: ...

    def keys(self, epoch: int) -> np.ndarray:
        """int64 [n, 2]: the keys of an epoch in the order in which they are visited."""


class ShuffledOrder:
    """Epoch e of the stream: all of `indices`, in a permutation seeded by (seed, e).

    Args:
        indices: int64 [n], the samples to visit.
        seed: seed of the run.
    """

    def __init__(self, indices: np.ndarray, seed: int):
        self.indices, self.seed = indices, seed

    def __len__(self) -> int:
        return len(self.indices)

    def keys(self, epoch: int) -> np.ndarray:
        """int64 [n, 2]: rows (epoch, index) in the order in which they are visited."""
        order = self.indices[_permutation(len(self.indices), self.seed, _ORDER, epoch)]
        return np.stack([np.full_like(order, epoch), order], axis=1)


class ClassBalancedOrder:
    """An epoch in which every class appears equally often, ceil(n / classes) times.

    Each class passes through its samples in one seeded permutation after another, across epochs. The first number of a
    key counts these passes, so a sample that appears twice in an epoch is augmented in two ways.

    Args:
        indices: int64 [n], the samples to visit.
        labels: int64 [n], their classes.
        seed: seed of the run.
    """

    def __init__(self, indices: np.ndarray, labels: np.ndarray, seed: int):
        self.seed = seed
        self.members = [indices[labels == label] for label in np.unique(labels)]
        self.quota = -(-len(indices) // max(len(self.members), 1))

    def __len__(self) -> int:
        return self.quota * len(self.members)

    def keys(self, epoch: int) -> np.ndarray:
        """int64 [n, 2]: rows (pass, index) in the order in which they are visited."""
        rows = np.concatenate([self._class_keys(number, epoch) for number in range(len(self.members))])
        return rows[_permutation(len(rows), self.seed, _SHUFFLE, epoch)]

    def _class_keys(self, number: int, epoch: int) -> np.ndarray:
        members = self.members[number]
        draws = np.arange(epoch * self.quota, (epoch + 1) * self.quota)
        passes, offsets = draws // len(members), draws % len(members)
        index = np.empty_like(draws)
        for walk in np.unique(passes):
            order = members[_permutation(len(members), self.seed, _ORDER, number, int(walk))]
            index[passes == walk] = order[offsets[passes == walk]]
        return np.stack([passes, index], axis=1)


class StreamSampler:
    """Endless batches of (epoch, index) keys, from a position on.

    Args:
        order: what one epoch looks like.
        batch_size: samples of the global batch; a multiple of `world`.
        position: samples that were consumed before.
        rank: this process.
        world: number of processes.

    Raises `ConfigError` where the ranks cannot share the batch evenly or the data set is empty.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        position: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        if batch_size < 1 or batch_size % world:
            raise ConfigError(f"batch_size: {batch_size}, expected a positive multiple of the {world} processes")
        if not len(order):
            raise ConfigError("the training data set is empty")
        self.order, self.batch_size, self.position = order, batch_size, position
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[np.ndarray]:
        """int64 [batch_size / world, 2] for each global batch."""
        epoch, start = divmod(self.position, len(self.order))
        keys = self.order.keys(epoch)[start:]
        while True:
            while len(keys) < self.batch_size:  # a batch may span the border of two epochs
                epoch += 1
                keys = np.concatenate([keys, self.order.keys(epoch)])
            yield keys[self.rank : self.batch_size : self.world]
            keys = keys[self.batch_size :]


class SequentialSampler:
    """Every sample exactly once, in order, sharded by rank; the last batch may be short.

    Args:
        indices: int64 [n], the samples to visit.
        batch_size: samples of the global batch.
        rank: this process.
        world: number of processes.

    Raises `ConfigError` where the ranks cannot share the batch evenly, or a rank would have no batch: it would skip the
    evaluation, and the others would wait for it at the end, where figures are gathered.
    """

    def __init__(self, indices: np.ndarray, batch_size: int, rank: int = 0, world: int = 1):
        if batch_size < 1 or batch_size % world:
            raise ConfigError(f"eval_batch_size: {batch_size}, expected a positive multiple of the {world} processes")
        if world > 1 and len(indices) < world:
            samples = f"{len(indices)} sample{'s' if len(indices) != 1 else ''}"
            raise ConfigError(f"evaluation data: {samples} for {world} processes, expected at least one for each")
        self.indices, self.batch_size = indices, batch_size
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        full, rest = divmod(len(self.indices), self.batch_size)
        return full + (rest > self.rank)

    def __iter__(self) -> Iterator[np.ndarray]:
        """int64 [rows, 2]: keys (0, index)."""
        for start in range(0, len(self.indices), self.batch_size):
            index = self.indices[start : start + self.batch_size][self.rank :: self.world]
            if len(index):
                yield np.stack([np.zeros_like(index), index], axis=1)


def spread(total: int, limit: int | None) -> np.ndarray:
    """Indices of the first `limit` samples, or of `limit` samples spread evenly over data that are sorted by class."""
    count = total if limit is None else min(limit, total)
    return np.arange(count, dtype=np.int64) * total // max(count, 1)


def _permutation(n: int, *keys: int) -> np.ndarray:
    return np.random.default_rng(seed_of(*keys)).permutation(n)
