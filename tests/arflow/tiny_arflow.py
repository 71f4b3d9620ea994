"""A network of 4x4 images whose layers are all random, those that start at zero as well."""

import torch

from visionseq.arflow import ARFlow

CONFIG = {
    "input_size": 4,
    "patch_size": 2,
    "in_channels": 1,
    "hidden_size": 24,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 3,
    "learn_sigma": False,
}


def tiny(seed: int = 0, **changes: object) -> ARFlow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARFlow(**{**CONFIG, **changes})
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()
