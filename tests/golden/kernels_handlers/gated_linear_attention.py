"""gated_linear_attention against golden files: every kind of decay, the bonus of RWKV6, states, packed sequences."""

import torch
from golden_vector import GoldenVector
from torch import Tensor

from kernels_handlers.compare import check_operator
from visionseq.kernels.gated_linear_attention import gated_linear_attention

ARGUMENTS = {name: name for name in ("q", "k", "v", "g", "initial_state")} | {"bonus": "u"}
OUTPUTS = ["o", "final_state"]


def check_gla(vector: GoldenVector) -> None:
    scale = vector.config["scale"]  # a number, or the text of the default
    check_operator(
        vector, gated_linear_attention, ARGUMENTS, OUTPUTS, scale=None if isinstance(scale, str) else float(scale)
    )


def check_retnet(vector: GoldenVector) -> None:
    """The decays are not in the file: head h has 1 - 2^(-5-h)."""

    def retention(q: Tensor, **others: Tensor) -> tuple[Tensor, Tensor | None]:
        g = torch.log1p(-(2.0 ** (-5 - torch.arange(q.shape[2], dtype=torch.float64))))
        return gated_linear_attention(q, g=g.to(q.dtype), **others)

    check_operator(vector, retention, ARGUMENTS, OUTPUTS)


HANDLERS = {
    "gla_scalar": check_gla,
    "gla_key": check_gla,
    "gla_bonus": check_gla,
    "gla_extreme": check_gla,
    "gla_reverse": check_gla,
    "gla_packed": check_gla,
    "gla_retnet": check_retnet,
}
