"""Benchmarks of the room `sit`.

    blocks    forward and backward of a stack of blocks against timm's ViT blocks and diffusers' DiT blocks
    half      the same stack under bfloat16 autocast against float32
    sampling  images per second, and the time of a sampler against that of its network evaluations alone

Every section returns plain values: seconds with quartiles, and ratios against the named peer from the same rounds.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.benchmarks.harness import compare, count_flops
from visionseq.benchmarks.sit.peers import DiffusersBlocks, TimmBlocks
from visionseq.nn.adaptive import AdaptiveBlock, Attention, FeedForward
from visionseq.sit.model import SiT
from visionseq.sit.presets import PRESETS
from visionseq.sit.sampling import sample

TOKENS = 256  # of a 256x256 image at patch 2
SIZES = {  # device: name -> (width, heads, blocks, batch)
    "cpu": {"S, 2 blocks, batch 2": (384, 6, 2, 2), "XL, 1 block, batch 1": (1152, 16, 1, 1)},
    "cuda": {"S, 12 blocks, batch 64": (384, 6, 12, 64), "XL, 7 blocks, batch 32": (1152, 16, 7, 32)},
}
Size = tuple[int, int, int, int]


class SiTBlocks(nn.Module):
    """A stack of our blocks."""

    def __init__(self, dim: int, heads: int, depth: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            AdaptiveBlock(dim, Attention(dim, heads), FeedForward(dim, 4 * dim)) for _ in range(depth)
        )

    def forward(self, x_BND: Tensor, c_BD: Tensor) -> Tensor:
        for block in self.blocks:
            x_BND = block(x_BND, c_BD)
        return x_BND


def blocks(device: str, rounds: int) -> dict[str, Any]:
    """Ratios below 1 mean that our stack is faster; FLOPs differ by the modulations alone, and are given."""
    return {name: _blocks_at(size, device, rounds) for name, size in _sizes(device).items()}


def _blocks_at(size: Size, device: str, rounds: int) -> dict[str, Any]:
    dim, heads, depth, batch = size
    torch.manual_seed(0)
    stacks = {
        "SiT": SiTBlocks(dim, heads, depth),
        "timm": TimmBlocks(dim, heads, depth),
        "diffusers": DiffusersBlocks(dim, heads, depth),
    }
    x, c = torch.randn(batch, TOKENS, dim, device=device), torch.randn(batch, dim, device=device)
    calls = {name: _step(stack.to(device), x, c) for name, stack in stacks.items()}
    flops = {name: count_flops(call) for name, call in calls.items()}
    timed = compare(calls, rounds)
    return {
        "seconds": timed.summary(),
        "flops": flops,
        "ratio_to_timm": timed.ratio("SiT", "timm"),
        "ratio_to_diffusers": timed.ratio("SiT", "diffusers"),
        "flops_to_timm": flops["SiT"] / flops["timm"],
        "flops_to_diffusers": flops["SiT"] / flops["diffusers"],
    }


def half_precision(device: str, rounds: int) -> dict[str, Any]:
    """bfloat16 over float32, forward and backward; below 1 is faster. Processors without bfloat16 emulate it slowly."""
    results = {}
    for name, (dim, heads, depth, batch) in _sizes(device).items():
        torch.manual_seed(0)
        stack = SiTBlocks(dim, heads, depth).to(device)
        x, c = torch.randn(batch, TOKENS, dim, device=device), torch.randn(batch, dim, device=device)
        timed = compare({"bfloat16": _step(stack, x, c, half=True), "float32": _step(stack, x, c)}, rounds)
        results[name] = {"seconds": timed.summary(), "ratio_to_float32": timed.ratio("bfloat16", "float32")}
    return results


def sampling(device: str, rounds: int) -> dict[str, Any]:
    """A published size with random weights; `overhead` is the sampler's time over that of its evaluations alone."""
    on_gpu = device.startswith("cuda")
    name, batch, evaluations = ("SiT-XL/2", 32, 20) if on_gpu else ("SiT-S/4", 2, 4)
    torch.manual_seed(0)
    model = SiT.from_config(PRESETS[name]).eval().to(device)
    z, labels = (
        torch.randn(batch, *model.sample_shape, device=device),
        torch.zeros(batch, dtype=torch.int64, device=device),
    )
    t = torch.full((batch,), 0.5, device=device)

    @torch.no_grad()
    def network() -> None:
        for _ in range(evaluations):
            model(z, t, labels)

    calls: dict[str, Callable[[], object]] = {
        "network": network,
        "heun": lambda: sample(model, z, evaluations // 2, "heun", labels, record=False),
        "euler-maruyama": lambda: sample(model, z, evaluations, "euler-maruyama", labels, record=False),
    }
    timed = compare(calls, rounds, warmup=1)
    seconds = timed.summary()
    return {
        "model": name,
        "batch": batch,
        "evaluations": evaluations,
        "seconds": seconds,
        "overhead": {solver: timed.ratio(solver, "network") for solver in ("heun", "euler-maruyama")},
        "images_per_second_at_250_evaluations": batch * evaluations / 250 / seconds["euler-maruyama"]["median_s"],
    }


def _sizes(device: str) -> dict[str, Size]:
    return SIZES["cuda" if device.startswith("cuda") else "cpu"]


def _step(stack: nn.Module, x: Tensor, c: Tensor, half: bool = False) -> Callable[[], None]:
    """A forward and backward pass, as one call."""

    def step() -> None:
        stack.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16) if half else nullcontext():
            y = stack(x, c)
        y.float().square().mean().backward()

    return step
