"""diffusers' UNet2DModel as a peer: the configuration whose forward and backward cost the FLOPs of a given SongUNet."""

from itertools import product
from typing import Any

import torch
from torch import nn

from visionseq.benchmarks.harness import count_flops
from visionseq.errors import import_extra

TOLERANCE = 0.01  # of the FLOPs; among the configurations within it the one nearest in width is taken


def unet_of_equal_flops(config: dict[str, Any], batch: int, flops: int) -> tuple[nn.Module, dict[str, Any]]:
    """UNet2DModel with the levels, blocks and attention of a SongUNet configuration, its widths chosen by FLOPs.

    Returns the module and its arguments; attention has one head, as in SongUNet.
    """
    # Widths of the levels around those of the SongUNet; each has to divide into the groups of the norms.
    diffusers = import_extra("diffusers", "bench")
    widths = [config["model_channels"] * mult for mult in config["channel_mult"]]
    groups = min(32, widths[0] // 4)
    candidates: list[Any] = []

    # Of the configurations within the tolerance, take the one whose widths differ least.
    for steps in product(range(-1, 3), repeat=len(widths) - 1):
        shifted = [widths[0], *(width + step * groups for width, step in zip(widths[1:], steps, strict=True))]
        arguments = _arguments(config, shifted, groups)
        with torch.device("meta"):
            peer = diffusers.UNet2DModel(**arguments)
        difference = abs(_flops_on_meta(peer, config, batch) / flops - 1)
        candidates.append((max(difference, TOLERANCE), sum(map(abs, steps)), len(candidates), arguments))
    arguments = min(candidates)[-1]
    return diffusers.UNet2DModel(**arguments), arguments


def _arguments(config: dict[str, Any], widths: list[int], groups: int) -> dict[str, Any]:
    """Arguments of UNet2DModel with the levels of a SongUNet configuration and these widths."""
    resolutions = [config["img_resolution"] >> i for i in range(len(widths))]
    kinds = ["Attn" if resolution in config["attn_resolutions"] else "" for resolution in resolutions]
    return {
        "sample_size": config["img_resolution"],
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "layers_per_block": config["num_blocks"],
        "block_out_channels": widths,
        "norm_num_groups": groups,
        "attention_head_dim": min(widths[1:]),
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
    }


def _flops_on_meta(peer: nn.Module, config: dict[str, Any], batch: int) -> int:
    x = torch.empty(batch, config["in_channels"], config["img_resolution"], config["img_resolution"], device="meta")
    noise = torch.empty(batch, device="meta")
    return count_flops(lambda: peer(x, noise).sample.square().mean().backward())
