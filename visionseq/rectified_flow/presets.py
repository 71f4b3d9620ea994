"""The official networks of arXiv 2405.20320 and how their pairs were generated.

    model = EDMVelocity(build_network(PRESETS["cifar10_ve_aug"].network))

Names are those of the official configuration files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One official model.

    Attributes:
        network: configuration for `build_network`.
        use_fp16: the network runs in float16 on CUDA.
        pair_steps: noise levels N of the teacher's Heun ODE, 2N - 1 evaluations an image.
        num_pairs: size of the pair set, where the official commands state it.
    """

    network: dict[str, Any]
    use_fp16: bool
    pair_steps: int
    num_pairs: int | None


def _ncsnpp(img_resolution: int, channel_mult: list[int], dropout: float) -> dict[str, Any]:
    return {
        "type": "SongUNet",
        "img_resolution": img_resolution,
        "in_channels": 3,
        "out_channels": 3,
        "label_dim": 0,
        "augment_dim": 9,
        "model_channels": 128,
        "channel_mult": channel_mult,
        "channel_mult_emb": 4,
        "num_blocks": 4,
        "attn_resolutions": [16],
        "dropout": dropout,
        "label_dropout": 0,
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "encoder_type": "residual",
        "decoder_type": "standard",
        "resample_filter": [1, 3, 3, 1],
    }


_IMAGENET64 = {
    "type": "DhariwalUNet",
    "img_resolution": 64,
    "in_channels": 3,
    "out_channels": 3,
    "label_dim": 1000,
    "augment_dim": 0,
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "channel_mult_emb": 4,
    "num_blocks": 3,
    "attn_resolutions": [32, 16, 8],
    "dropout": 0.10,
    "label_dropout": 0,
}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "cifar10_ve_aug": Preset(_ncsnpp(32, [2, 2, 2], dropout=0.13), False, pair_steps=18, num_pairs=1_000_000),
        "afhq64_ve_aug": Preset(_ncsnpp(64, [1, 2, 2, 2], dropout=0.25), False, pair_steps=40, num_pairs=None),
        "ffhq64_ve_aug": Preset(_ncsnpp(64, [1, 2, 2, 2], dropout=0.25), False, pair_steps=40, num_pairs=None),
        "imagenet64": Preset(_IMAGENET64, True, pair_steps=40, num_pairs=5_000_000),
    }
)
