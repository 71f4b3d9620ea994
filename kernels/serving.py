"""Which backend serves a call of an operator: asked for by name, the loop where a call is tiny, or the first that can.

A call of a CPU kernel costs about 0.1 ms before it computes anything, with its backward 0.5 ms. A loop of few tokens
over small tensors is faster: up to LOOP_TOKENS tokens, measured on small cases of each operator.
"""

import logging
import os
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from visionseq.kernels.backends import choose_backend, implemented_backends
from visionseq.kernels.watching import is_unwatched

log = logging.getLogger("visionseq.kernels")


LOOP_TOKENS = {
    "linear_scan": 8,
    "gated_linear_attention": 1,
    "delta_rule": 1,
    "recurrent_cell": 1,
    "lif_scan": 1,
    "grid_scan": 2,  # nodes, with one direction
}
LOOP_ELEMENTS = 1 << 14  # of the main input
SETTINGS = ("VISIONSEQ_BACKEND", "TRITON_INTERPRET")  # what the choice depends on besides its arguments


def serving_backend(name: str, main: Tensor, backend: str, tokens: int | None = None) -> str:
    """The backend that serves an operator for its main input; the log says once which one it is.

    `tokens` of a sequence, where all sequences have as many, lets `auto` take the loop for a tiny call.
    """
    if backend == "auto" and tokens is not None and _is_tiny(name, main, tokens):
        return "reference"
    transformed = not torch.compiler.is_compiling() and _is_transformed()
    return _serving_backend(name, main.device.type, main.dtype == torch.float64, transformed, backend)


def _is_tiny(name: str, main: Tensor, tokens: int) -> bool:
    if main.device.type != "cpu" or tokens > LOOP_TOKENS.get(name, 0) or main.numel() > LOOP_ELEMENTS:
        return False
    return is_unwatched((main,)) and not os.environ.get("VISIONSEQ_BACKEND")


def _is_transformed() -> bool:
    """Whether a transform of torch.func or a level of forward-mode derivatives is active."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _serving_backend(name: str, device: str, double: bool, transformed: bool, backend: str) -> str:
    return _chosen(name, device, double, transformed, backend, *map(os.environ.get, SETTINGS))


# What torch.compiler.assume_constant_result sets; the function itself imports torch._dynamo, which takes a second.
_serving_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache
def _chosen(name: str, device: str, double: bool, transformed: bool, backend: str, *settings: str | None) -> str:
    """Kept for the values of `SETTINGS`, which `choose_backend` reads itself."""
    chosen = choose_backend(device, backend, implemented_backends()[name], double, transformed)
    _say_once(name, device, chosen)
    return chosen


@lru_cache
def _say_once(name: str, device: str, chosen: str) -> None:
    log.info("%s on %s: backend %s", name, device, chosen)
