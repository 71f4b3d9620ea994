"""Dynamic loss scale for networks that compute in float16 (the official recipe of arXiv 2405.20320 for ImageNet-64).

Each loss is multiplied by the scale before its backward pass, and the gradients are checked after it. An overflow
halves the scale, not below 1, and drops the gradients; `window` clean checks in a row double it. Before the update the
gradients are divided by the scale.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn

from visionseq.training.trainer_parts import model_of


class DynamicLossScale:
    """The scale as a function of the overflow flags so far.

    Args:
        init_scale: first value; 1 switches the mechanism off, the scale then never changes.
        window: clean checks in a row after which the scale grows.
        factor: by which the scale grows, and shrinks on an overflow.
        floor: below which it does not shrink.
    """

    def __init__(self, init_scale: float = 32768.0, window: int = 10_000, factor: float = 2.0, floor: float = 1.0):
        self.scale, self.window, self.factor, self.floor = float(init_scale), window, factor, floor
        self.enabled = init_scale != 1
        self.clean = 0

    def update(self, overflow: bool) -> None:
        """Take in the check of one backward pass."""
        if not self.enabled:
            return
        self.clean = 0 if overflow else self.clean + 1
        if overflow:
            self.scale = max(self.scale / self.factor, self.floor)
        elif self.clean == self.window:
            self.scale, self.clean = self.scale * self.factor, 0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "clean": self.clean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scale, self.clean = state["scale"], state["clean"]


class LossScale(Precision):
    """Lightning plugin that trains under a dynamic loss scale; weights and their gradients stay float32.

    Args:
        init_scale: first value of the scale.
        window: clean checks in a row after which the scale doubles.
    """

    def __init__(self, init_scale: float = 32768.0, window: int = 10_000):
        super().__init__()
        self.loss_scale = DynamicLossScale(init_scale, window)

    # Lightning's own `Precision` narrows the modules of these three methods to LightningModule in the same way.
    def pre_backward(self, tensor: Tensor, module: LightningModule) -> Tensor:  # type: ignore[override]
        return super().pre_backward(tensor * self.loss_scale.scale, module)

    def post_backward(self, tensor: Tensor, module: LightningModule) -> Tensor:  # type: ignore[override]
        if self.loss_scale.enabled:
            self._check(module)
        return super().post_backward(tensor, module)

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: LightningModule, closure: Callable[[], Any], **keywords: Any
    ) -> Any:
        def unscaled() -> Any:
            result = closure()
            _multiply_gradients(model, 1 / self.loss_scale.scale)
            return result

        return super().optimizer_step(optimizer, model, unscaled, **keywords)

    def state_dict(self) -> dict[str, Any]:
        return self.loss_scale.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss_scale.load_state_dict(state_dict)

    def _check(self, module: LightningModule) -> None:
        overflow = has_overflow(model_of(module).parameters())
        if module.trainer.world_size > 1:  # between two synchronisations the gradients of the processes differ
            overflow = module.trainer.strategy.reduce_boolean_decision(overflow, all=False)
        before = self.loss_scale.scale
        self.loss_scale.update(overflow)
        if overflow:
            module.zero_grad(set_to_none=True)
        else:  # the gradients accumulated so far grow with the scale
            _multiply_gradients(module, self.loss_scale.scale / before)


def has_overflow(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether the sum of any gradient is not finite."""
    sums = [p.grad.float().sum() for p in parameters if p.grad is not None]
    return bool(sums) and not bool(torch.stack(sums).isfinite().all())


def _multiply_gradients(module: LightningModule, factor: float) -> None:
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if factor != 1 and gradients:
        torch._foreach_mul_(gradients, factor)
