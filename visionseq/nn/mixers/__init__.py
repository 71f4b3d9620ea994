"""Token mixers on the scan kernels, behind one protocol.

    y_BTD, state = mixer(x_BTD, state=None, cu_seqlens=None, reverse=False)
    y_BD, state = mixer.step(x_BD, state=None)

A mixer is imported and constructed, or named by its `class_path` in a configuration; there is no registry. Names load
what they need when they are first used.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Mixer": "mixer",
    "Mamba": "mamba",
    "RetNet": "retnet",
    "MultiScaleRetention": "multi_scale_retention",
    "RWKV6": "rwkv6",
    "RWKV7": "rwkv7",
    "MLSTM": "mlstm",
    "SLSTM": "slstm",
    "TTTLinear": "ttt",
    "GatedLinearAttention": "gated_linear_attention",
    "DeltaNet": "delta_net",
    "GatedDeltaNet": "delta_net",
    "LSTM": "recurrent",
    "GRU": "recurrent",
    "MinGRU": "recurrent",
    "SoftmaxAttention": "attention",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
