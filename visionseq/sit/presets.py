"""The official sizes of SiT for 256x256 images (latents 4 x 32 x 32), arXiv 2401.08740, table 1.

    SiT.from_config(PRESETS["SiT-XL/2"])

For 512x512 images, `input_size` is 64.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SIZES = {
    "S": {"hidden_size": 384, "depth": 12, "num_heads": 6},
    "B": {"hidden_size": 768, "depth": 12, "num_heads": 12},
    "L": {"hidden_size": 1024, "depth": 24, "num_heads": 16},
    "XL": {"hidden_size": 1152, "depth": 28, "num_heads": 16},
}
PATCHES = (2, 4, 8)

PRESETS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        f"SiT-{size}/{patch}": {
            "input_size": 32,
            "patch_size": patch,
            "in_channels": 4,
            **sizes,
            "mlp_ratio": 4.0,
            "class_dropout_prob": 0.1,
            "num_classes": 1000,
            "learn_sigma": True,
            "path": "Linear",
            "prediction": "velocity",
        }
        for size, sizes in SIZES.items()
        for patch in PATCHES
    }
)
