"""Official checkpoints: plain states, those with an average, and what does not match."""

import argparse
import json

import pytest
import torch

from visionseq import convert
from visionseq.cli import main
from visionseq.errors import CheckpointError, ConfigError
from visionseq.sit import SiT, from_official, to_official
from visionseq.zoo.loading import load

TINY = {"input_size": 4, "in_channels": 1, "hidden_size": 8, "depth": 2, "num_heads": 2, "num_classes": 3}


def official_state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    empty = SiT(**TINY).state_dict()
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in empty.items()}


def test_a_state_with_and_without_an_average():
    average, raw = official_state(0), official_state(1)
    for content in (average, {"ema": average}, {"model": raw, "ema": average, "opt": {}}):
        model = from_official(content, TINY)
        assert all(tensor.equal(average[name]) for name, tensor in to_official(model).items())
    assert to_official(from_official({"model": raw}, TINY))["pos_embed"].equal(raw["pos_embed"])


def test_a_file_on_the_command_line_and_back(tmp_path, capsys):
    state = official_state()
    content = {"ema": state, "model": official_state(1), "args": argparse.Namespace(image_size=32)}
    torch.save(content, tmp_path / "sit.pt")
    config = tmp_path / "sit.json"
    config.write_text(json.dumps(TINY))
    assert main(["convert", "sit", str(tmp_path / "sit.pt"), str(tmp_path / "out"), "--config", str(config)]) == 0
    assert main(["convert", "sit", str(tmp_path / "out"), str(tmp_path / "again.pt"), "--reverse"]) == 0
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert all(tensor.equal(state[name]) for name, tensor in again.items())
    assert load(str(tmp_path / "out")).preprocessing["kind"] == "image"


def test_latents_name_their_autoencoder():
    model = SiT(**{**TINY, "in_channels": 4})
    preprocessing = convert.from_official("sit", model.state_dict(), model.config).preprocessing
    assert preprocessing["kind"] == "latent"
    assert "0.18215" in preprocessing["encoder"]


def test_states_and_configurations_that_do_not_match():
    state = official_state()
    del state["pos_embed"]
    with pytest.raises(CheckpointError, match="1 missing"):
        from_official(state, TINY)
    with pytest.raises(CheckpointError, match="expected a dict of names"):
        from_official({}, TINY)
    with pytest.raises(ConfigError, match="SiT has no image_size; its arguments: input_size"):
        from_official(official_state(), {**TINY, "image_size": 32})
