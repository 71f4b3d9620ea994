"""Means over an epoch that do not depend on the number of processes.

Lightning weights the values of `self.log(..., sync_dist=True)` by their batch sizes. But it divides the number of
samples by the number of processes as an integer: 359 samples on two processes count as 179 each instead of 179.5, and
every mean is 0.3 % too large.
"""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor


class ExactMeans(Callback):
    """Makes the strategy average integers as real numbers."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or "reduce" in vars(trainer.strategy):  # the latter since an earlier call
            return
        reduce = trainer.strategy.reduce

        def exact_reduce(tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
            if isinstance(tensor, Tensor) and not tensor.is_floating_point() and reduce_op in ("mean", "avg"):
                tensor = tensor.float()
            return reduce(tensor, group, reduce_op)

        trainer.strategy.reduce = exact_reduce  # type: ignore[method-assign]
