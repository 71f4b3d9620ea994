"""Benchmarks of the room `bfm`.

    frn         a sampler with approximated features against the full one, n = 4 and 8 steps in a segment
    throughput  images per second of both samplers

The network has the width of the pre-release S and few blocks, at which matrix products dominate. Its proportions are
those of XL: the feature network has five times the blocks of the FRN. Every section returns plain values.
"""

from typing import Any

import torch

from visionseq.benchmarks.harness import compare
from visionseq.bfm.flops import step_flops
from visionseq.bfm.model import BFM
from visionseq.bfm.sampling import plan

NETWORK: dict[str, Any] = {
    "context_size": 16,
    "in_channels": 4,
    "hidden_size": 384,
    "num_heads": 6,
    "num_classes": 10,
    "segments": 2,
    "segment_depth": 2,
    "feature_alignment_depth": 10,
    "adaln_lora_dim": 96,
    "frn_depth": 2,
    "finetune": True,
    "projector_hidden": 64,
    "dim_projection": 64,
    "q_norm": "RMSNorm",
    "k_norm": "RMSNorm",
}
BATCH = 4
STEPS = (4, 8)  # in a segment


def frn(device: str, rounds: int) -> dict[str, Any]:
    """Speed-up on the clock and by counted operations; their ratio is 1 where only products cost time."""
    return {f"n = {steps}": _speed_up(_model(device), steps, device, rounds) for steps in STEPS}


def throughput(device: str, rounds: int) -> dict[str, Any]:
    """Images per second of the network above, without guidance, 8 steps in a segment."""
    model = _model(device)
    timed = compare(_samplers(model, 8, device), rounds=max(2, rounds // 3), warmup=1).summary()
    return {"images_per_second": {name: BATCH / value["median_s"] for name, value in timed.items()}, "seconds": timed}


def _speed_up(model: BFM, steps: int, device: str, rounds: int) -> dict[str, Any]:
    cost = step_flops(model.config)
    flops = {name: cost.sampler(plan(model.segments, steps, frn=name == "frn")) for name in ("full", "frn")}
    timed = compare(_samplers(model, steps, device), rounds=max(3, rounds // 3), warmup=1)
    ratio, counted = timed.ratio("full", "frn"), flops["full"] / flops["frn"]
    return {
        "seconds": timed.summary(),
        "flops_of_an_image": flops,
        "speed_up": ratio,
        "speed_up_by_flops": counted,
        "speed_up_over_flops": ratio / counted,
    }


def _samplers(model: BFM, steps: int, device: str) -> dict[str, Any]:
    noise = torch.randn(BATCH, *model.sample_shape, device=device)
    labels = torch.arange(BATCH, device=device) % model.label_dim
    total = steps * model.segments
    return {
        "full": lambda: model.sample(noise, total, labels, frn=False),
        "frn": lambda: model.sample(noise, total, labels, frn=True),
    }


def _model(device: str) -> BFM:
    torch.manual_seed(0)
    return BFM(**NETWORK).to(device).eval()
