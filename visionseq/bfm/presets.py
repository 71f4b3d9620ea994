"""The official networks of arXiv 2510.21167, by the names and with the keys of the official configuration files.

Only XL is registered in the released code; S is that of an earlier release, built from the same code.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_SHARED: dict[str, Any] = {
    "context_size": 32,
    "patch_size": 2,
    "in_channels": 4,
    "mlp_ratio": 4.0,
    "class_dropout_prob": 0.1,
    "num_classes": 1000,
    "segments": 6,
    "dim_projection": 768,
    "q_norm": "RMSNorm",
    "k_norm": "RMSNorm",
    "qkv_bias": True,
    "ffn_bias": True,
    "adaln_bias": True,
    "norm_type": "layernorm",
    "adaln_type": "lora",
    "rel_pos_embed": "rope",
}
_XL = {
    **_SHARED,
    "hidden_size": 1152,
    "num_heads": 16,
    "segment_depth": 5,
    "feature_alignment_depth": 20,
    "adaln_lora_dim": 288,
}
_S = {
    **_SHARED,
    "hidden_size": 384,
    "num_heads": 6,
    "segment_depth": 4,
    "feature_alignment_depth": 6,
    "adaln_lora_dim": 96,
}
_FRN = {"finetune": True, "frn_depth": 4}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"BFM_XL": _XL, "BFM_XL_frn": {**_XL, **_FRN}, "BFM_S": _S, "BFM_S_frn": {**_S, **_FRN}}
)
