"""Benchmarks of the room `arflow`, on two blocks of the size S/4 for 128 pixels: 16 tokens an image.

late_calls  the 250th network call of a trajectory against the 5th: the cost of a call must not grow
sampling    images per second with the memory carried, against calls without a memory
training    sequences of five images, against as many single images
"""

from typing import Any

import torch
from torch import Tensor

from visionseq.arflow.loss import sequence_losses, sorted_times
from visionseq.arflow.model import ARFlow, Memories
from visionseq.arflow.presets import PRESETS
from visionseq.benchmarks.harness import compare

BATCH, IMAGES, STEPS = 2, 5, 10
REPEATS = 10  # calls that are timed together
NETWORK = {**PRESETS["S/4-128"], "depth": 2}
EARLY, LATE = 5, 250


def late_calls(device: str, rounds: int) -> dict[str, Any]:
    """Seconds of ten repetitions of a call, with the memories of 4 and of 249 calls before it."""
    model, x = _network(device), _noise(device)
    labels, t = torch.zeros(BATCH, dtype=torch.int64, device=device), torch.full((BATCH, 1), 0.5, device=device)
    memories: dict[int, Memories] = {}
    state = None
    with torch.no_grad():
        for call in range(1, LATE):
            _, state = model(x, t, labels, state)
            if call + 1 in (EARLY, LATE):
                memories[call + 1] = state
        timed = compare(
            {
                str(EARLY): lambda: [model(x, t, labels, memories[EARLY]) for _ in range(REPEATS)],
                str(LATE): lambda: [model(x, t, labels, memories[LATE]) for _ in range(REPEATS)],
            },
            rounds,
        )
    return {"seconds": timed.summary(), f"ratio_{LATE}_to_{EARLY}": timed.ratio(str(LATE), str(EARLY))}


def sampling(device: str, rounds: int) -> dict[str, Any]:
    """Images per second; the ratio is the price of the memory."""
    model, x = _network(device), _noise(device)
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device)
    times = torch.linspace(0, 1, STEPS, device=device)

    @torch.no_grad()
    def calls(carried: bool) -> None:
        memories = None
        for t in times:
            _, after = model(x, t.expand(BATCH, 1), labels, memories)
            memories = after if carried else None

    timed = compare(
        {
            "sample": lambda: model.sample(x[:, 0], STEPS, labels),
            "carried": lambda: calls(True),
            "no memory": lambda: calls(False),
        },
        max(2, rounds // 3),
        warmup=1,
    )
    return {
        "seconds": timed.summary(),
        "images_per_second": {name: BATCH / value["median_s"] for name, value in timed.summary().items()},
        "steps": STEPS,
        "ratio_carried_to_no_memory": timed.ratio("carried", "no memory"),
        "ratio_sampler_to_network_calls": timed.ratio("sample", "carried"),
    }


def training(device: str, rounds: int) -> dict[str, Any]:
    """Forward and backward of sequences of five images, and of as many single images."""
    model = _network(device)
    data = torch.randn(BATCH, IMAGES, *model.sample_shape, device=device)
    t_BS = sorted_times(torch.rand(BATCH, IMAGES, device=device))
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device)

    def step(x: Tensor, t: Tensor, y: Tensor) -> None:
        model.zero_grad(set_to_none=True)
        sequence_losses(model, x, torch.randn_like(x), t, y).mean().backward()

    single = data.flatten(0, 1).unsqueeze(1), t_BS.reshape(-1, 1), labels.repeat_interleave(IMAGES)
    timed = compare({"sequences": lambda: step(data, t_BS, labels), "single": lambda: step(*single)}, rounds)
    images = BATCH * IMAGES
    return {
        "seconds": timed.summary(),
        "images_per_second": {name: images / value["median_s"] for name, value in timed.summary().items()},
        "ratio_sequences_to_single": timed.ratio("sequences", "single"),
    }


def _network(device: str) -> ARFlow:
    torch.manual_seed(0)
    return ARFlow(**NETWORK).to(device).eval()


def _noise(device: str) -> Tensor:
    """One image of each row [B, 1, C, H, W]."""
    channels, side = NETWORK["in_channels"], NETWORK["input_size"]
    return torch.randn(BATCH, 1, channels, side, side, generator=torch.Generator().manual_seed(0)).to(device)
