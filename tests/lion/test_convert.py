"""Official checkpoints both ways: bit for bit, old kernels, and configurations that lack something."""

import pytest
import torch
from tiny_detector import tiny_config

from visionseq import zoo
from visionseq.cli.console import run
from visionseq.convert import from_official, official_config, to_official
from visionseq.errors import CheckpointError, ConfigError
from visionseq.lion.presets import preset, preset_names


def official_state(detector) -> dict[str, torch.Tensor]:
    return {**to_official("lion", detector), "global_step": torch.tensor([7])}


def test_there_and_back_is_the_same_bits(detector):
    state = official_state(detector)
    found = from_official("lion", {"model_state": state}, official_config("lion", detector))
    back = to_official("lion", found)
    assert set(back) == set(state) - {"global_step"}
    assert all(torch.equal(back[name], state[name]) for name in back)
    assert found.preprocessing["features"] == ["x", "y", "z", "intensity"]
    assert found.preprocessing["point_cloud_range"] == detector.point_cloud_range


def test_kernels_of_spconv_1_are_turned(detector):
    state = official_state(detector)
    old = {name: t.permute(1, 2, 3, 4, 0).contiguous() if t.ndim == 5 else t for name, t in state.items()}
    found = from_official("lion", old, tiny_config())
    name = "backbone_3d.dow1.sub_conv.0.weight"
    assert old[name].shape != state[name].shape
    assert torch.equal(found.state_dict()[name], state[name])


def test_weights_and_configurations_that_do_not_match_are_named(detector):
    state = official_state(detector)
    del state["vfe.pfn_layers.0.linear.weight"]
    state["other"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"(?s)vfe.pfn_layers.0.linear.weight.*other"):
        from_official("lion", state, tiny_config())
    counter = next(name for name in state if name.endswith("num_batches_tracked"))
    with pytest.raises(CheckpointError, match=rf"(?s)1 of another shape.*{counter} +found \[3\] int64"):
        from_official("lion", state | {counter: torch.zeros(3, dtype=torch.int64)}, tiny_config())
    with pytest.raises(ConfigError, match="configuration: DATA_CONFIG is missing"):
        from_official("lion", official_state(detector), {"MODEL": {}, "CLASS_NAMES": []})
    with pytest.raises(ConfigError, match="configuration: point_cloud_range is missing"):
        from_official("lion", official_state(detector), {"width": 7})
    with pytest.raises(ConfigError, match="configuration: a value of another kind than expected"):
        from_official("lion", official_state(detector), {"model": 7})


def test_the_command_converts_and_the_result_detects(detector, tmp_path, capsys):
    torch.save({"epoch": 1, "model_state": official_state(detector)}, tmp_path / "official.pth")
    import yaml

    (tmp_path / "values.yaml").write_text(yaml.safe_dump(tiny_config()))
    arguments = ["convert", "lion", str(tmp_path / "official.pth"), str(tmp_path / "out")]
    assert run([*arguments, "--config", str(tmp_path / "values.yaml")]) == 0
    assert "LionDetector" in capsys.readouterr().out
    loaded = zoo.load(tmp_path / "out")
    points = torch.cat([torch.zeros(60, 1), torch.randn(60, 4)], 1)
    ours, theirs = loaded.detect(points)[0], detector.detect(points)[0]
    assert torch.equal(ours.boxes, theirs.boxes)
    assert run(["convert", "lion", str(tmp_path / "out"), str(tmp_path / "back.pth"), "--reverse"]) == 0
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(back[name], value) for name, value in to_official("lion", detector).items())


def test_the_official_configurations_are_nineteen():
    names = preset_names()
    assert len(names) == 19
    assert preset("second_with_lion_TTT_64dim")["backbone_3d"]["operator"]["name"] == "TTT"
    with pytest.raises(ConfigError, match="preset 'mamba_lidar_world'"):
        preset("mamba_lidar_world")
