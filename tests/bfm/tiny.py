"""A small network with random weights, nothing of it left at zero, and a batch of small images."""

import torch

from visionseq.bfm.model import BFM
from visionseq.data.batch import ImageBatch

NETWORK = {
    "context_size": 4,
    "patch_size": 2,
    "in_channels": 1,
    "hidden_size": 16,
    "num_heads": 2,
    "num_classes": 3,
    "segments": 3,
    "segment_depth": 1,
    "feature_alignment_depth": 2,
    "dim_projection": 5,
    "adaln_lora_dim": 4,
    "projector_hidden": 8,
    "frn_depth": 1,
    "q_norm": "RMSNorm",
    "k_norm": "RMSNorm",
}


def tiny_model(**options) -> BFM:
    torch.manual_seed(0)
    model = BFM(**{**NETWORK, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def tiny_batch(n: int = 9) -> ImageBatch:
    generator = torch.Generator().manual_seed(1)
    return ImageBatch(torch.rand(n, 1, 4, 4, generator=generator) * 2 - 1, torch.arange(n) % 3, torch.arange(n))
