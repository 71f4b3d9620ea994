"""Parameters, FLOPs and latency of the token mixers and of the zoo's models, and the operators that the count misses.

torch's FlopCounterMode counts contractions (products, convolutions, attention) and operators that registered a formula,
as the scan kernels do. Contractions and operators of other libraries that have no formula are listed as uncounted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from visionseq import zoo
from visionseq.benchmarks.harness import compare
from visionseq.nn import mixers

WIDTH, LENGTH, BATCH = 64, 512, 1
CONTRACTIONS = ("mm", "bmm", "conv", "attention", "dot", "mv", "lstm", "gru", "rnn")

MIXERS: dict[str, Callable[[], nn.Module]] = {
    "Mamba": lambda: mixers.Mamba(WIDTH),
    "Mamba, both directions": lambda: mixers.Mamba(WIDTH, bidirectional=True),
    "RetNet": lambda: mixers.RetNet(WIDTH, heads=2),
    "RWKV6": lambda: mixers.RWKV6(WIDTH, heads=4),
    "RWKV6, both directions": lambda: mixers.RWKV6(WIDTH, heads=4, bidirectional=True),
    "RWKV7": lambda: mixers.RWKV7(WIDTH, heads=4),
    "MLSTM": lambda: mixers.MLSTM(WIDTH, heads=4),
    "SLSTM": lambda: mixers.SLSTM(WIDTH, heads=4),
    "TTTLinear": lambda: mixers.TTTLinear(WIDTH, heads=4),
    "GatedLinearAttention": lambda: mixers.GatedLinearAttention(WIDTH, heads=4),
    "DeltaNet": lambda: mixers.DeltaNet(WIDTH, heads=4),
    "GatedDeltaNet": lambda: mixers.GatedDeltaNet(WIDTH, heads=4),
    "LSTM": lambda: mixers.LSTM(WIDTH),
    "GRU": lambda: mixers.GRU(WIDTH),
    "MinGRU": lambda: mixers.MinGRU(WIDTH),
    "SoftmaxAttention": lambda: mixers.SoftmaxAttention(WIDTH, heads=4),
}


def profile(module: nn.Module, *inputs: Tensor, rounds: int = 5) -> dict[str, Any]:
    """Parameters, FLOPs and seconds of one forward pass, and the names of the operators that were not counted."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _Operators() as operators:
        module(*inputs)

    def forward() -> None:
        with torch.no_grad():
            module(*inputs)

    return {
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "flops": counter.get_total_flops(),
        "latency_s": compare({"forward": forward}, rounds).summary()["forward"]["median_s"],
        "uncounted": sorted(name for name in operators.names if _is_missed(name)),
    }


def token_mixers(device: str, rounds: int) -> dict[str, Any]:
    """Every mixer at width 64 on 512 tokens."""
    x_BTD = torch.randn(BATCH, LENGTH, WIDTH, device=device)
    return {name: profile(make().to(device).eval(), x_BTD, rounds=rounds) for name, make in MIXERS.items()}


def zoo_models(device: str, rounds: int) -> dict[str, Any]:
    """Every flow of the zoo, one evaluation of one image."""
    results = {}
    for name in zoo.list_models("rf-*"):
        model: Any = zoo.load(name).to(device)
        image = torch.randn(1, *model.sample_shape, device=device)
        results[name] = profile(model, image, torch.full((1,), 0.5, device=device), rounds=rounds)
    return results


class _Operators(TorchDispatchMode):
    """The names of all operators that run inside."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function._overloadpacket))
        return function(*args, **(kwargs or {}))


def _is_missed(name: str) -> bool:
    """True for an operator (aten.mm, ...) that does arithmetic and has no formula."""
    namespace, _, operator = name.partition(".")
    contracts = namespace not in ("aten", "prims") or any(part in operator for part in CONTRACTIONS)
    return contracts and name not in {str(operator) for operator in flop_registry}
