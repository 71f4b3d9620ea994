"""The official networks of arXiv 2501.16085 by size, patch and image side.

    with torch.device("meta"):
        model = ARFlow(**PRESETS["XL/2-256"])

A name is that of the paper with the side of the image in pixels. Networks of one size and two sides differ in the table
of positions alone. XL has 18 heads of 64 channels at patch 2 and 16 of 72 at others.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_WIDTHS = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
_SIDES = (256, 128)
_DOWNSAMPLING = 8  # of the autoencoder


def _network(side: int, patch_size: int, depth: int, hidden_size: int, num_heads: int) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "input_size": side // _DOWNSAMPLING,
            "patch_size": patch_size,
            "in_channels": 4,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": 4.0,
            "class_dropout_prob": 0.1,
            "num_classes": 1000,
            "learn_sigma": True,
        }
    )


def _presets() -> dict[str, Mapping[str, Any]]:
    presets = {}
    for name, (depth, width, heads) in _WIDTHS.items():
        for patch in (2, 4, 8):
            for side in _SIDES:
                heads_here = 18 if (name, patch) == ("XL", 2) else heads
                presets[f"{name}/{patch}-{side}"] = _network(side, patch, depth, width, heads_here)
    return {**presets, "Test/8-256": _network(256, 8, 2, 128, 4)}


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(_presets())
