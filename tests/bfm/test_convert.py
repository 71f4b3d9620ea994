"""Official files: names with what wrappers put into them, whole configuration files, sizes."""

import pytest
import torch
import yaml
from tiny import NETWORK, tiny_model

from visionseq import convert
from visionseq.bfm.convert import build, from_official, official_config, to_official
from visionseq.cli import main
from visionseq.errors import CheckpointError, ConfigError
from visionseq.saving.weights import read_safetensors, write_safetensors
from visionseq.zoo.loading import load


@pytest.mark.parametrize(
    ("preset", "parameters", "frn"), [("BFM_XL", 963_401_712, 95_621_184), ("BFM_S", 72_347_856, 10_640_384)]
)
def test_sizes_are_exact(preset, parameters, frn):
    with torch.device("meta"):
        first, second = (build(convert.preset_configs("bfm")[name]) for name in (preset, f"{preset}_frn"))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (first, second)]
    assert counts == [parameters, parameters + frn]
    assert len(first.state_dict()) == {"BFM_XL": 723, "BFM_S": 443}[preset]


@pytest.mark.parametrize("name", ["model.safetensors", "model_1.safetensors"])
def test_files_of_a_compiled_distributed_run_convert_and_come_back(name, tmp_path):
    model = tiny_model(finetune=True)
    state = to_official(model)
    wrapped = {
        "module."
        + key.replace("representation_blocks.0.", "representation_blocks.0._orig_mod.").replace(
            "velocity_blocks.2.0.", "velocity_blocks.2.0._orig_mod."
        ): tensor
        for key, tensor in state.items()
    }
    assert sum("._orig_mod." in key for key in wrapped) > 10
    write_safetensors(tmp_path / name, wrapped if name == "model.safetensors" else state)
    config = {"model": {"type": "BFM_XL", "network_config": {**NETWORK, "concat_adaln": True}}, "diffusion": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["convert", "bfm", str(tmp_path / name), str(tmp_path / "ours"), "--config", str(tmp_path / "config.yaml")]
    assert main(words) == 0
    ours = load(tmp_path / "ours")
    assert ours.has_frn
    assert main(["convert", "bfm", str(tmp_path / "ours"), str(tmp_path / "again.safetensors"), "--reverse"]) == 0
    again = read_safetensors(tmp_path / "again.safetensors")
    assert again.keys() == state.keys()
    assert all(again[key].equal(tensor) for key, tensor in state.items())


def test_a_state_that_does_not_match_is_refused():
    state = to_official(tiny_model())
    del state["x_embedder.proj.bias"]
    with pytest.raises(CheckpointError, match=r"x_embedder\.proj\.bias"):
        from_official(state, NETWORK)
    with pytest.raises(CheckpointError, match="frn_blocks"):
        from_official(to_official(tiny_model()), {**NETWORK, "finetune": True})
    with pytest.raises(CheckpointError, match="entry 'step' is a int"):
        from_official({"step": 3}, NETWORK)


def test_configurations_that_are_none_of_bfm():
    with pytest.raises(ConfigError, match="no `network_config`"):
        build({"model": {"type": "BFM_XL"}})
    with pytest.raises(ConfigError, match=r"model\.type 'SiT'"):
        build({"model": {"type": "SiT", "network_config": {}}})
    assert "path_type" not in official_config(tiny_model())
