"""Adam with the one-cycle schedule of OpenPCDet's detectors: momentum falls while the learning rate rises.

With T updates and a = int(T * pct_start), update i (from 0) has, for i < a, a rate that rises from lr / div_factor to
lr and a first beta that falls from moms[0] to moms[1], both along half a cosine; afterwards the rate falls to
lr / (div_factor * 1e4) and beta returns. Weights shrink by 1 - weight_decay * rate before Adam's step.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from visionseq.errors import ConfigError
from visionseq.optim.factory import by_decay


@dataclass
class AdamOneCycle:
    """The optimiser; `build` makes the result of a LightningModule's `configure_optimizers`.

    Args:
        lr: the highest rate.
        weight_decay: decoupled, of all parameters but those with a true `_no_weight_decay` (Mamba's A and D).
        moms: first beta at both ends, and at the highest rate.
        pct_start: share of the updates in which the rate rises.
        div_factor: highest rate / first rate.
    """

    lr: float = 0.003
    weight_decay: float = 0.01
    moms: tuple[float, float] = (0.95, 0.85)
    pct_start: float = 0.4
    div_factor: float = 10.0

    def __post_init__(self):
        self.moms = (float(self.moms[0]), float(self.moms[1]))
        if self.lr <= 0 or self.div_factor <= 0 or not 0 <= self.pct_start <= 1:
            raise ConfigError(
                f"optimizer: lr {self.lr}, div_factor {self.div_factor}, pct_start {self.pct_start}; "
                "expected positive numbers, and a share"
            )

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int) -> dict[str, Any]:
        """Optimiser and per-update schedule over `total_steps` updates."""
        if total_steps < 1:
            raise ConfigError(f"one-cycle schedule over {total_steps} updates: set trainer.max_steps")
        groups = by_decay(list(parameters), self.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(self.moms[0], 0.99), eps=1e-8)
        scheduler = OneCycle(optimizer, self.at(total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def at(self, total_steps: int) -> Callable[[int], tuple[float, float]]:
        """Update i (from 0) -> its rate and first beta."""
        rising, low = int(total_steps * self.pct_start), self.lr / self.div_factor
        high_beta, low_beta = self.moms

        def values(i: int) -> tuple[float, float]:
            if i < rising:
                share = i / rising
                return _cosine(low, self.lr, share), _cosine(high_beta, low_beta, share)
            share = min((i - rising) / max(total_steps - rising, 1), 1.0)
            return _cosine(self.lr, low / 1e4, share), _cosine(low_beta, high_beta, share)

        return values


class OneCycle(LRScheduler):
    """Sets rate and first beta of all groups before each update; resumes from its step count alone."""

    def __init__(self, optimizer: torch.optim.Optimizer, values: Callable[[int], tuple[float, float]]):
        self.values = values
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        rate, beta = self.values(self.last_epoch)
        for group in self.optimizer.param_groups:
            group["betas"] = (beta, group["betas"][1])
        return [rate] * len(self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().state_dict().items() if name != "values"}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)
