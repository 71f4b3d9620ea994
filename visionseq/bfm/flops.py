"""Floating point operations of BFM (arXiv 2510.21167), for one sample: a multiplication and an addition are two.

All matrix products count, also those of attention; autoencoder and encoder do not. torch's FlopCounterMode with the
math backend of attention counts the same. An FRN step has no g1 here, which it does not use: 93.86 GFLOP for XL instead
of the 93.88 of the official code, which computes it.

    cost = step_flops(model.config)
    cost.full, cost.frn, cost.sampler(plan(segments=6, steps=8, frn=True))

Legend: N tokens, D width, M width inside an MLP, r rank of the modulations.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from visionseq.bfm.sampling import Call

FREQUENCIES = 256  # features of a time


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one sample.

    Attributes:
        full: a step of a sampler that runs the feature blocks.
        frn: a step that approximates the features.
        training: the forward pass of the first stage: `full` and the alignment head.
    """

    full: int
    frn: int
    training: int

    def sampler(self, calls: Iterable[Call]) -> int:
        """A whole sampler by its plan; a call with doubled rows counts twice."""
        return sum((self.frn if call.frn else self.full) * (2 if call.both else 1) for call in calls)


def step_flops(config: Mapping[str, Any]) -> StepFlops:
    """The FLOPs of a network from the arguments of `BFM`."""
    N, D = (config["context_size"] // config["patch_size"]) ** 2, config["hidden_size"]
    r, patch = config["adaln_lora_dim"], config["in_channels"] * config["patch_size"] ** 2
    core = _block_core(config, N, D)

    # Embeddings and the two feature networks, whose modulations are of a sample.
    time = 2 * (FREQUENCIES * D + D * D)
    embed = 2 * N * patch * D
    g1 = 12 * D * D
    features = embed + g1 + config["feature_alignment_depth"] * (core + 14 * D * r)
    residual = embed + config["frn_depth"] * (core + 12 * D * D)

    # The velocity blocks of one segment and the output, whose modulations are of each token.
    g2, final_modulation = 24 * N * D * D, 8 * N * D * D
    output = 2 * N * D * patch * (2 if config["learn_sigma"] else 1)
    velocity = embed + g2 + config["segment_depth"] * (core + 16 * N * D * r) + final_modulation + output

    hidden = config["projector_hidden"]
    projection = 2 * N * (D * hidden + hidden * hidden + hidden * config["dim_projection"])
    full = time + features + velocity
    return StepFlops(full, time + residual + velocity, full + projection)


def measured_flops(call: Callable[[], object]) -> int:
    """The FLOPs of a call as torch counts them, with attention written as two products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _block_core(config: Mapping[str, Any], N: int, D: int) -> int:
    """Attention and MLP of one block; 24 N D^2 + 4 N^2 D for a plain MLP of four times the width."""
    attention = 8 * N * D * D + 4 * N * N * D
    M = int(D * config["mlp_ratio"])
    if config["use_swiglu_large"]:
        return attention + 6 * N * D * M
    if config["use_swiglu"]:
        return attention + 6 * N * D * (M * 2 // 3)
    return attention + 4 * N * D * M
