"""The one optimiser factory: Adam, AdamW or SGD with linear warm-up and a constant or cosine learning rate."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from visionseq.errors import ConfigError


@dataclass
class OptimizerConfig:
    """Optimiser and schedule; `build` makes the result of a LightningModule's `configure_optimizers`.

    Args:
        lr: base learning rate, reached at the end of the warm-up.
        name: adam, adamw (decoupled weight decay) or sgd (momentum betas[0]).
        betas: decay of the moments.
        eps: added to the root of the second moment.
        weight_decay: of all parameters but those with a true `_no_weight_decay`, such as Mamba's decay rates.
        decay_vectors: whether parameters of one axis, biases and gains, decay as well.
        warmup_steps: the rate of update i (from 1) is lr * i / warmup_steps until it reaches lr.
        schedule: of the rate after the warm-up; cosine falls to zero at the end of the training.
        official_warmup: the rate of update i is lr * i / W from exactly 0 and stays at lr * (W - 1) / W, as the
            official code of arXiv 2405.20320 never sets it again; only for bit-compatibility with it.
    """

    lr: float
    name: Literal["adam", "adamw", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_vectors: bool = True
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    official_warmup: bool = False

    def __post_init__(self):
        if self.name not in ("adam", "adamw", "sgd"):
            raise ConfigError(f"optimizer.name {self.name!r}, expected adam, adamw or sgd")
        if self.schedule not in ("constant", "cosine"):
            raise ConfigError(f"optimizer.schedule {self.schedule!r}, expected constant or cosine")
        if self.lr <= 0 or self.warmup_steps < 0:
            raise ConfigError(f"optimizer: lr {self.lr}, warmup_steps {self.warmup_steps}; expected lr > 0, steps >= 0")
        if self.official_warmup and self.schedule != "constant":
            raise ConfigError("optimizer.official_warmup: the official code has a constant rate, found schedule cosine")

    def build(self, parameters: Iterable[nn.Parameter], total_steps: int) -> dict[str, Any]:
        """Optimiser and per-update schedule; `total_steps` is read by the cosine schedule alone."""
        if self.schedule == "cosine" and total_steps <= self.warmup_steps:
            raise ConfigError(f"cosine schedule over {total_steps} steps with {self.warmup_steps} of warm-up")
        optimizer = self._optimizer(list(parameters))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor(total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def factor(self, total_steps: int) -> Callable[[int], float]:
        """Update i (from 0) -> its learning rate relative to `lr`."""

        def factor(i: int) -> float:
            if self.official_warmup:
                return min(i, self.warmup_steps - 1) / self.warmup_steps if self.warmup_steps else 1.0
            warm = min(1.0, (i + 1) / self.warmup_steps) if self.warmup_steps else 1.0
            if self.schedule == "constant":
                return warm
            progress = max(0, i - self.warmup_steps) / (total_steps - self.warmup_steps)
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        return factor

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        groups = by_decay(parameters, self.weight_decay, self.decay_vectors)
        options: dict[str, Any] = {"lr": self.lr}
        # One kernel for all of a small network's parameters instead of ten per parameter; on a GPU torch groups them.
        options["fused"] = True if all(p.is_cpu and p.is_floating_point() for p in parameters) else None
        if self.name == "sgd":
            optimizer: Any = torch.optim.SGD(groups, momentum=self.betas[0], **options)
        else:
            kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
            optimizer = kind(groups, betas=self.betas, eps=self.eps, **options)
        # A fused step would also divide by the loss scale of float16, and Lightning then refuses to clip gradients.
        optimizer._step_supports_amp_scaling = False
        return optimizer


def by_decay(parameters: list[nn.Parameter], weight_decay: float, vectors: bool = True) -> list[dict[str, Any]]:
    """Parameter groups: those that decay, and those that are exempt, if any; `vectors`: whether one axis decays."""
    exempt = [
        parameter
        for parameter in parameters
        if getattr(parameter, "_no_weight_decay", False) or (parameter.ndim < 2 and not vectors)
    ]
    if not exempt or not weight_decay:
        return [{"params": parameters, "weight_decay": weight_decay}]
    marked = set(map(id, exempt))
    decaying = [parameter for parameter in parameters if id(parameter) not in marked]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
