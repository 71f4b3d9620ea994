"""gated_linear_attention against golden files: every kind of decay, the bonus of RWKV6, states, packed sequences."""

import torch
from golden_vector import GoldenVector
from torch import Tensor

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.gated_linear_attention import gated_linear_attention

ARGUMENTS = {name: name for name in ("q", "k", "v", "g", "initial_state")} | {"bonus": "u"}
OUTPUTS = ["o", "final_state"]


def check_gla(vector: GoldenVector) -> None:
    options = options_of(vector, gated_linear_attention)
    options.pop("bonus", None)  # the configuration names the tensor in/u
    function = gated_linear_attention if "in/g" in vector else retention
    check_operator(vector, function, ARGUMENTS, OUTPUTS, **options)


def retention(q: Tensor, **others: Tensor) -> tuple[Tensor, Tensor | None]:
    """The decays that a file without any means: 1 - 2^(-5-h) for head h."""
    g = torch.log1p(-(2.0 ** (-5 - torch.arange(q.shape[2], dtype=torch.float64))))
    return gated_linear_attention(q, g=g.to(q.dtype), **others)


HANDLERS = {"gla_": check_gla}
