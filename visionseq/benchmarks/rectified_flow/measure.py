"""Benchmarks of the room `rectified_flow`: the U-Net, pair generation and sampling, times, the data loader.

    unet      forward and backward of SongUNet against diffusers' UNet2DModel of equal FLOPs and a plain re-expression
    sampling  images per second of pair generation (18-step Heun, 35 evaluations) and of 1-step sampling
    sample_t  U-shaped times of a batch, antithetic against i.i.d.
    loader    batches of visionseq.data against a plain PyTorch DataLoader with the same work per image

Every section returns plain values: seconds with quartiles, and ratios against the named peer from the same rounds.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.benchmarks.harness import Comparison, compare, count_flops
from visionseq.benchmarks.rectified_flow.diffusers_peer import unet_of_equal_flops
from visionseq.benchmarks.rectified_flow.loader_peer import loader_alternatives
from visionseq.benchmarks.rectified_flow.plain_unet import plain_unet
from visionseq.flow.time import sample_t
from visionseq.pixels import to_uint8
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.sampling import sample
from visionseq.rectified_flow.teacher import edm_sample

# NCSN++ as in the official models (arXiv 2405.20320), at sizes that a CPU runs in tenths of a second.
NCSNPP = {
    "type": "SongUNet",
    "in_channels": 3,
    "out_channels": 3,
    "channel_mult": [1, 2, 2],
    "num_blocks": 2,
    "attn_resolutions": [16],
    "dropout": 0.0,
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "resample_filter": [1, 3, 3, 1],
}
SIZES = {
    "32 channels, batch 16": ({**NCSNPP, "img_resolution": 32, "model_channels": 32}, 16),
    "128 channels, batch 2": ({**NCSNPP, "img_resolution": 32, "model_channels": 128}, 2),
}
SMALL = {**NCSNPP, "img_resolution": 32, "model_channels": 16}


def unet(device: str, rounds: int) -> dict[str, Any]:
    """Forward and backward of one batch; ratios below 1 mean that SongUNet is faster."""
    return {name: _unet_at(config, batch, device, rounds) for name, (config, batch) in SIZES.items()}


def _unet_at(config: dict[str, Any], batch: int, device: str, rounds: int) -> dict[str, Any]:
    """Seconds, FLOPs and ratios of one size."""
    # Ours, and the same network written plainly.
    torch.manual_seed(0)
    ours = build_network(config).to(device)
    x = torch.randn(batch, 3, config["img_resolution"], config["img_resolution"], device=device)
    c_noise = torch.randn(batch, device=device)
    calls: dict[str, Callable[[], Tensor]] = {
        "SongUNet": lambda: ours(x, c_noise),
        "plain": lambda: plain_unet(ours, x, c_noise),
    }
    flops = {name: count_flops(_backward(call, ours)) for name, call in calls.items()}

    # The U-Net of diffusers with as many FLOPs.
    peer, description = unet_of_equal_flops(config, batch, flops["SongUNet"])
    peer.to(device)
    calls["UNet2DModel"] = lambda: peer(x, c_noise).sample
    flops["UNet2DModel"] = count_flops(_backward(calls["UNet2DModel"], peer))

    # Time forward and backward of all three, in turns.
    steps = {name: _backward(call, peer if name == "UNet2DModel" else ours) for name, call in calls.items()}
    timed = compare(steps, rounds)
    per_flop = timed.ratio("SongUNet", "UNet2DModel") * flops["UNet2DModel"] / flops["SongUNet"]
    return {
        "seconds": timed.summary(),
        "flops": flops,
        "ratio_to_UNet2DModel": timed.ratio("SongUNet", "UNet2DModel"),
        "ratio_to_UNet2DModel_per_flop": per_flop,
        "ratio_to_plain": timed.ratio("SongUNet", "plain"),
        "UNet2DModel": description,
    }


def _backward(call: Callable[[], Tensor], module: nn.Module) -> Callable[[], None]:
    """A forward and backward pass of a module, as one call."""

    def step() -> None:
        module.zero_grad(set_to_none=True)
        call().square().mean().backward()

    return step


def sampling(device: str, rounds: int) -> dict[str, Any]:
    """Images per second with a SongUNet of 16 channels on 32x32."""
    torch.manual_seed(0)
    network, batch = build_network(SMALL).to(device).eval(), 32
    denoiser, velocity = EDMDenoiser(network), EDMVelocity(network)
    noise = torch.randn(batch, *denoiser.sample_shape, device=device)
    timed = compare(
        {
            "pairs": lambda: to_uint8(edm_sample(denoiser, noise, steps=18, record=False).x),
            "one_step": lambda: sample(velocity, noise, steps=1, record=False).x,
        },
        rounds=max(2, rounds // 4),
        warmup=1,
    )
    return {
        "seconds": timed.summary(),
        "images_per_second": {name: batch / value["median_s"] for name, value in timed.summary().items()},
        "evaluations": {"pairs": 35, "one_step": 1},
        "speed_up_of_one_step": timed.ratio("pairs", "one_step"),
    }


def time_draws(device: str, rounds: int) -> dict[str, Any]:
    """U-shaped times of a batch of 512."""
    generator = torch.Generator().manual_seed(0)

    def draws(antithetic: bool) -> Callable[[], None]:
        def call() -> None:
            for _ in range(200):
                sample_t(512, 4.0, generator=generator, antithetic=antithetic, device=device)

        return call

    timed = compare({"antithetic": draws(True), "iid": draws(False)}, rounds)
    return {"seconds_of_200_batches": timed.summary(), "ratio_iid_to_antithetic": timed.ratio("iid", "antithetic")}


def loader(device: str, rounds: int) -> dict[str, Any]:
    """Images per second of an epoch in batches of 64; ratios below 1 mean that visionseq is faster."""
    results: dict[str, Any] = {}
    for name, (alternatives, images) in loader_alternatives().items():
        timed: Comparison = compare(alternatives, rounds=max(3, rounds // 3), warmup=1)
        results[name] = {
            "images_per_second": {key: images / value["median_s"] for key, value in timed.summary().items()},
            "seconds": timed.summary(),
            "ratio_to_DataLoader": timed.ratio("visionseq", "DataLoader"),
        }
    return results
