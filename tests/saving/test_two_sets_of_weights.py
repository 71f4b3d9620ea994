"""Model folders with averaged and raw weights: each by its name, never mixed."""

import pytest
import torch

import visionseq
from visionseq.errors import CheckpointError, ConfigError
from visionseq.rectified_flow.model import EDMVelocity
from visionseq.rectified_flow.residual_mlp import ResidualMLP
from visionseq.zoo.loading import load_folder


@pytest.fixture
def folder(tmp_path):
    """The average is all ones, the raw weights are all twos."""
    model = EDMVelocity(ResidualMLP(img_resolution=4, in_channels=1, hidden=8, num_blocks=1))
    torch.nn.init.ones_(model.model.output.weight)
    raw = {**model.state_dict(), "model.output.weight": torch.full_like(model.model.output.weight, 2.0)}
    model.save_pretrained(tmp_path / "model", raw_weights=raw)
    return tmp_path / "model"


def value_of(model: EDMVelocity) -> float:
    return model.model.output.weight[0, 0].item()


def test_both_sets_are_loaded_by_name(folder):
    assert value_of(visionseq.load(folder)) == value_of(visionseq.load(folder, weights="ema")) == 1
    assert value_of(visionseq.load(folder, weights="raw")) == value_of(load_folder(folder, "raw")) == 2
    assert value_of(EDMVelocity.from_pretrained(folder, weights="raw")) == 2
    assert value_of(visionseq.load(folder / "model.raw.safetensors")) == 2


def test_saving_over_a_folder_leaves_no_raw_weights_of_the_earlier_model(folder):
    visionseq.load(folder).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"has one set of weights, in model\.safetensors"):
        visionseq.load(folder, weights="raw")


def test_another_name_is_refused(folder):
    with pytest.raises(ConfigError, match="weights: 'average', expected 'ema' or 'raw'"):
        visionseq.load(folder, weights="average")
