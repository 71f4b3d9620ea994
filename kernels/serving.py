"""Which backend serves a call of an operator: asked for by name, or the first that can."""

import logging
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from visionseq.kernels.backends import choose_backend, implemented_backends

log = logging.getLogger("visionseq.kernels")


def serving_backend(name: str, main: Tensor, backend: str) -> str:
    """The backend that serves an operator for its main input; the log says once which one it is."""
    transformed = not torch.compiler.is_compiling() and _is_transformed()
    return _serving_backend(name, main.device.type, main.dtype == torch.float64, transformed, backend)


def _is_transformed() -> bool:
    """Whether a transform of torch.func or a level of forward-mode derivatives is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


@torch.compiler.assume_constant_result
def _serving_backend(name: str, device: str, double: bool, transformed: bool, backend: str) -> str:
    chosen = choose_backend(device, backend, implemented_backends()[name], double, transformed)
    _say_once(name, device, chosen)
    return chosen


@lru_cache
def _say_once(name: str, device: str, chosen: str) -> None:
    log.info("%s on %s: backend %s", name, device, chosen)
