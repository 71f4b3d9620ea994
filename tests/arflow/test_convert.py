"""Official checkpoints: averaged weights, a Namespace beside them, arguments that do nothing."""

from argparse import Namespace

import pytest
import torch
from tiny_arflow import tiny

from visionseq import convert
from visionseq.arflow import from_official
from visionseq.arflow.convert import official_config, to_official
from visionseq.cli import main
from visionseq.errors import CheckpointError, ConfigError


def test_a_training_checkpoint_gives_its_averaged_weights(tmp_path):
    raw, averaged = tiny(1), tiny(2)
    content = {
        "model": raw.state_dict(),
        "ema": averaged.state_dict(),
        "opt": torch.optim.AdamW(raw.parameters()).state_dict(),
        "args": Namespace(model="ARFlow-XL/2", image_size=256, betas=(0.9, 0.95), path=None),
    }
    torch.save(content, tmp_path / "0400000.pt")
    state = convert.read_official("arflow", tmp_path / "0400000.pt")
    model = convert.from_official("arflow", state, official_config(averaged))
    for name, tensor in to_official(model).items():
        assert tensor.equal(averaged.state_dict()[name]), name


def test_other_classes_in_a_checkpoint_are_refused(tmp_path):
    torch.save({"ema": tiny().state_dict(), "args": pytest.approx(1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="reading it could run code"):
        convert.read_official("arflow", tmp_path / "x.pt")


def test_the_command_finds_the_size_by_the_shapes(tmp_path, capsys):
    from visionseq.arflow import ARFlow
    from visionseq.arflow.presets import PRESETS

    model = ARFlow(**PRESETS["Test/8-256"])
    torch.save({"ema": model.state_dict(), "args": Namespace()}, tmp_path / "x.pt")
    assert main(["convert", "arflow", str(tmp_path / "x.pt"), str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert "Test/8-256" in capsys.readouterr().out
    loaded = ARFlow.from_pretrained(tmp_path / "out")
    assert loaded.preprocessing["kind"] == "latent"
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].equal(tensor), name


def test_arguments_without_effect_are_accepted_at_zero_alone():
    model = tiny()
    config = official_config(model)
    from_official(model.state_dict(), {**config, "drop_rate": 0, "attn_drop_rate": 0.0, "drop_path_rate": 0})
    with pytest.raises(ConfigError, match=r"drop_path_rate 0\.1 is not supported"):
        from_official(model.state_dict(), {**config, "drop_path_rate": 0.1})
    with pytest.raises(ConfigError, match=r"configuration: .*width"):
        from_official(model.state_dict(), {**config, "width": 3})
    state = {name: value for name, value in model.state_dict().items() if ".gt_proj." not in name}
    with pytest.raises(CheckpointError, match="2 missing"):
        from_official(state, config)
