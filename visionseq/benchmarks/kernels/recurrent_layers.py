"""The recurrent layers against those of torch: `mixers.LSTM(D)` against `nn.LSTM(D, D)`, `GRU` likewise.

Both sides get the same input [B, T, D] in float32, have the same weights and run on one thread. Each does the input
projection, the recurrence and, backwards, the gradients of the input and of every parameter. torch adds two biases
where ours has their sum (but for the last gate of GRU, which needs two).

Both sides take turns. The ratio of the fastest rounds is one of processor time, which one thread on a busy machine gets
less of but does not need more of.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.benchmarks.harness import Comparison, compare
from visionseq.nn import mixers

SHAPES = (
    *((16, 128, 256), (1, 1024, 64), (1, 128, 256), (64, 64, 64), (16, 128, 512)),
    *((4, 32, 128), (1, 16, 32), (32, 256, 128), (128, 50, 256)),
)
SPAN, MOST = 1.0, 25  # seconds for all rounds of short calls, which need more for a steady ratio, and their number
LAYERS = {"LSTM": (mixers.LSTM, nn.LSTM), "GRU": (mixers.GRU, nn.GRU)}
WORK = {
    "forward": "input projection and recurrence, without gradients",
    "forward + backward": "input projection and recurrence, then the gradients of the input and of every parameter",
}


def recurrent(device: str, rounds: int) -> dict[str, Any]:
    """Every layer at every shape, ours and torch's in turn; ratios above 1 say that ours is faster.

    Each call is made at least `rounds` times.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            f"{name}: B{batch} T{length} D{width}": _row(name, batch, length, width, device, rounds)
            for name in LAYERS
            for batch, length, width in SHAPES
        }
    finally:
        torch.set_num_threads(threads)


def pair(name: str, width: int) -> tuple[nn.Module, nn.Module]:
    """Our layer and torch's, with the same weights."""
    ours, theirs = LAYERS[name][0](width), LAYERS[name][1](width, width, batch_first=True)
    with torch.no_grad():
        copy_weights(ours, theirs)
    return ours, theirs


def copy_weights(ours: Any, theirs: Any) -> None:
    """Fill `ours` from `theirs`; torch's gates i, f, g, o are our i, f, z, o, its GRU's r, z, n our (n, r, z)."""
    ours.in_proj.weight.copy_(theirs.weight_ih_l0)
    weights_GHDE = theirs.weight_hh_l0.unflatten(0, (-1, theirs.hidden_size)).unsqueeze(1)
    input_bias_GHD = theirs.bias_ih_l0.unflatten(0, (-1, theirs.hidden_size)).unsqueeze(1)
    recurrent_bias_GHD = theirs.bias_hh_l0.unflatten(0, (-1, theirs.hidden_size)).unsqueeze(1)
    if isinstance(theirs, nn.LSTM):
        ours.recurrent_weight.copy_(weights_GHDE)
        ours.bias.copy_(input_bias_GHD + recurrent_bias_GHD)
    else:
        ours.recurrent_weight.copy_(weights_GHDE.roll(1, 0))
        gates = input_bias_GHD[:2] + recurrent_bias_GHD[:2]
        ours.bias.copy_(torch.cat([recurrent_bias_GHD[2:], gates, input_bias_GHD[2:]]))


def _row(name: str, batch: int, length: int, width: int, device: str, rounds: int) -> dict[str, Any]:
    ours, theirs = (layer.to(device) for layer in pair(name, width))
    x_BTD = torch.randn(batch, length, width, device=device, requires_grad=True)
    cotangent_BTD = torch.randn_like(x_BTD)
    layers = {"visionseq": ours, f"torch.nn.{name}": theirs}
    calls = {
        "forward": {key: _forward(layer, x_BTD) for key, layer in layers.items()},
        "forward + backward": {key: _with_backward(layer, x_BTD, cotangent_BTD) for key, layer in layers.items()},
    }
    return {direction: _measured(calls[direction], rounds, direction) for direction in calls}


def _measured(calls: dict[str, Callable[[], None]], rounds: int, direction: str) -> dict[str, Any]:
    """How many times longer the peer takes: median over the rounds, and fastest round against fastest round."""
    ours, peer = calls
    timed = compare(calls, max(rounds, min(MOST, int(SPAN / sum(map(_seconds, calls.values()))))))
    return {
        "each side does": WORK[direction],
        "rounds": len(timed.seconds[ours]),
        "seconds": timed.summary(),
        "speed_up": {peer: timed.ratio(peer, ours)},
        "speed_up_of_fastest_rounds": {peer: _fastest(timed, peer) / _fastest(timed, ours)},
    }


def _fastest(timed: Comparison, name: str) -> float:
    return min(timed.process_seconds[name])


def _seconds(call: Callable[[], None]) -> float:
    """Of the second call; the first one may compile."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _forward(layer: nn.Module, x_BTD: Tensor) -> Callable[[], None]:
    def step() -> None:
        with torch.no_grad():
            layer(x_BTD)

    return step


def _with_backward(layer: nn.Module, x_BTD: Tensor, cotangent_BTD: Tensor) -> Callable[[], None]:
    def step() -> None:
        layer.zero_grad()
        x_BTD.grad = None
        layer(x_BTD)[0].backward(cotangent_BTD)

    return step
