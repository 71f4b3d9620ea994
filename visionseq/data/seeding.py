"""Randomness by key: every random number of a run is a function of integers such as (seed, epoch, index).

Nothing here keeps state, so nothing has to be saved: the draws of a sample or of a step are the same with any number of
workers or processes, and after any restart. Keys are mixed by the finaliser of SplitMix64 (Steele, Lea and Flood 2014).

A step is known by the number of batches since the beginning of the run. Epoch and place in the epoch would not do: a
training that ends at `max_steps` in mid-epoch counts that epoch as done. A longer training that resumes from it would
count others.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning import Trainer

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def batches_done(trainer: "Trainer") -> int:
    """Training batches that the run has finished, over all restarts; within a step, the number from 0 of its batch."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    return progress.total.processed


def seed_of(*keys: int) -> int:
    """A seed in [0, 2^63) from any number of integers; their order and number matter."""
    state = 0
    for key in keys:
        state = _mix(((state ^ (int(key) & _MASK)) + _GAMMA) & _MASK)
    return state >> 1


def seeds_of(*keys: int | np.ndarray) -> np.ndarray:
    """`seed_of` for many keys at once: integers and int64 arrays [n] give uint64 [n], row by row the same seeds."""
    rows = np.broadcast_arrays(*[np.atleast_1d(np.asarray(key, dtype=np.int64)) for key in keys])
    state = np.zeros(rows[0].shape, dtype=np.uint64)
    for row in rows:
        state = _mix_rows((state ^ row.astype(np.uint64)) + np.uint64(_GAMMA))
    return state >> np.uint64(1)


def generator_for(*keys: int) -> torch.Generator:
    """A CPU generator seeded by the keys; the same keys always give the same numbers."""
    return torch.Generator().manual_seed(seed_of(*keys))


class GlobalDraw:
    """Random numbers of one training step, drawn for the whole global batch on every rank.

    Rank r of W keeps the rows r::W, those that the sampler gives it, so W processes together draw exactly the numbers
    of one process. Draws follow each other on one generator: call them in the same order on every rank.

    Args:
        keys: integers that identify the step, for instance seed and number of the batch.
        rank: this process.
        world: number of processes.
    """

    def __init__(self, *keys: int, rank: int = 0, world: int = 1):
        self.generator = generator_for(*keys)
        self.rank, self.world = rank, world

    def draw(self, fn: Callable[[int, torch.Generator], Tensor], n: int) -> Tensor:
        """`fn(rows, generator) -> [rows, ...]` called for n * world rows; returns this rank's [n, ...]."""
        return fn(n * self.world, self.generator)[self.rank :: self.world]

    __call__ = draw


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MULTIPLIERS[0]) & _MASK
    z = ((z ^ (z >> 27)) * _MULTIPLIERS[1]) & _MASK
    return z ^ (z >> 31)


def _mix_rows(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MULTIPLIERS[0])
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MULTIPLIERS[1])
    return z ^ (z >> np.uint64(31))
