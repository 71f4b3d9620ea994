"""Activation checkpointing and torch.compile: the same numbers, less memory or less time."""

import shutil

import pytest
import torch

from visionseq.nn.checkpointing import checkpoint_activations
from visionseq.rectified_flow.model import EDMVelocity, build_network

NETWORKS = {
    "SongUNet": {
        "img_resolution": 8,
        "in_channels": 1,
        "out_channels": 1,
        "model_channels": 8,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [4],
        "dropout": 0.2,
    },
    "ResidualMLP": {"img_resolution": 8, "in_channels": 1, "hidden": 16, "num_blocks": 3},
}


def velocity(name: str) -> EDMVelocity:
    torch.manual_seed(0)
    return EDMVelocity(build_network({"type": name, **NETWORKS[name]})).train()


def gradients(model: EDMVelocity) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    model(torch.randn(4, 1, 8, 8), torch.full((4,), 0.5)).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputed_blocks_have_the_same_names_and_gradients_with_dropout(name):
    plain, recomputed = velocity(name), velocity(name)
    assert checkpoint_activations(recomputed) > 1
    expected, found = gradients(plain), gradients(recomputed)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_recomputation_keeps_fewer_activations():
    kept = []
    for recompute in (False, True):
        model = velocity("SongUNet")
        if recompute:
            checkpoint_activations(model)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            model(torch.randn(4, 1, 8, 8), torch.full((4,), 0.5))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_trains_to_the_same_gradients():
    plain, compiled = velocity("ResidualMLP"), velocity("ResidualMLP")
    compiled.compile()
    expected, found = gradients(plain), gradients(compiled)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
