"""Official checkpoints to model folders and back, bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import visionseq
from visionseq import convert
from visionseq.cli import main
from visionseq.errors import CheckpointError, ConfigError
from visionseq.rectified_flow import convert as rectified_flow_convert
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity

SONG = {
    "unet_type": "songunet",
    "num_params": 1,
    "use_fp16": False,
    "img_resolution": 8,
    "in_channels": 1,
    "out_channels": 1,
    "label_dim": 3,
    "augment_dim": 2,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "decoder_type": "standard",
    "resample_filter": [1, 3, 3, 1],
}
ADM = {
    "unet_type": "adm",
    "use_fp16": True,
    "img_resolution": 8,
    "in_channels": 3,
    "out_channels": 3,
    "label_dim": 5,
    "model_channels": 64,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [8],
}


def official_state(config: dict, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """An official state of a network of our own with random weights."""
    arguments = {name: value for name, value in config.items() if name not in ("unet_type", "num_params", "use_fp16")}
    kind = {"songunet": "SongUNet", "adm": "DhariwalUNet"}[config["unet_type"]]
    model = EDMVelocity.from_config({"network": {"type": kind, **arguments}})
    return {name: torch.randn_like(value).to(dtype) for name, value in reversed(model.state_dict().items())}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def official(tmp_path: Path) -> dict[str, torch.Tensor]:
    state = official_state(SONG)
    torch.save(state, tmp_path / "official.pth")
    (tmp_path / "official.json").write_text(json.dumps(SONG))
    return state


def run(*arguments: object) -> int:
    return main(["convert", "rectified_flow", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("config", [SONG, ADM], ids=["songunet", "adm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_round_trip_is_bit_for_bit(tmp_path, config, dtype, suffix):
    state = official_state(config, dtype)
    source, back = tmp_path / f"official{suffix}", tmp_path / f"back{suffix}"
    save_file(state, source) if suffix == ".safetensors" else torch.save(state, source)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run(source, tmp_path / "out", "--config", tmp_path / "config.json") == 0
    assert run(tmp_path / "out", back, "--reverse") == 0
    found = load_file(back) if suffix == ".safetensors" else torch.load(back, weights_only=True)
    assert same_bits(found, state)
    values = json.loads(back.with_suffix(".json").read_text())
    assert {name: values[name] for name in config if name != "num_params"} == {
        name: value for name, value in config.items() if name != "num_params"
    }
    assert run(back, tmp_path / "again") == 0  # with the configuration that lies beside it


def test_model_folder_is_ready_to_use(official, tmp_path, capsys):
    assert run(tmp_path / "official.pth", tmp_path / "out", "--config", tmp_path / "official.json") == 0
    assert "EDMVelocity" in capsys.readouterr().out
    model = visionseq.load(tmp_path / "out")
    assert isinstance(model, EDMVelocity)
    assert model.preprocessing == {"kind": "image", "size": 8, "channels": 1, "class_names": []}
    assert model(torch.zeros(2, 1, 8, 8), torch.tensor([0.5, 0.9])).shape == (2, 1, 8, 8)
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("license: cc-by-nc-sa-4.0", "non-commercial", "official.pth, sha256", "official.json"):
        assert part in card


def test_teacher_on_request(official, tmp_path):
    arguments = (tmp_path / "official.pth", tmp_path / "out", "--config", tmp_path / "official.json")
    assert run(*arguments, "--model", "EDMDenoiser") == 0
    assert isinstance(visionseq.load(tmp_path / "out"), EDMDenoiser)


def test_resume_files_give_their_model(official, tmp_path):
    torch.save(
        {"model_state_dict": official, "optimizer_state_dict": {"state": {}}, "iter": 3}, tmp_path / "resume.pth"
    )
    assert run(tmp_path / "resume.pth", tmp_path / "out", "--config", tmp_path / "official.json") == 0
    assert run(tmp_path / "out", tmp_path / "back.pth", "--reverse") == 0
    assert same_bits(torch.load(tmp_path / "back.pth", weights_only=True), official)


def test_existing_results_are_kept_unless_told(official, tmp_path, capsys):
    arguments = (tmp_path / "official.pth", tmp_path / "out", "--config", tmp_path / "official.json")
    assert run(*arguments) == 0
    assert run(*arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0
    assert run(tmp_path / "out", tmp_path / "official.pth", "--reverse") == 1
    assert same_bits(torch.load(tmp_path / "official.pth", weights_only=True), official)


@pytest.mark.parametrize("name", ["model.json", "model.pth"])
def test_reverse_replaces_neither_the_weights_nor_their_configuration(official, tmp_path, capsys, name):
    assert run(tmp_path / "official.pth", tmp_path / "out", "--config", tmp_path / "official.json") == 0
    (tmp_path / name).write_text("mine")
    assert run(tmp_path / "out", tmp_path / "model.pth", "--reverse") == 1
    assert name in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("model.*")] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("target", ["config.pth", "model.safetensors", "config.safetensors"])
def test_reverse_never_breaks_a_model_folder(official, tmp_path, capsys, target):
    assert run(tmp_path / "official.pth", tmp_path / "out", "--config", tmp_path / "official.json") == 0
    assert run(tmp_path / "out", tmp_path / "out" / target, "--reverse", "--overwrite") == 1
    assert "belongs to the model folder" in capsys.readouterr().err
    assert isinstance(visionseq.load(tmp_path / "out"), EDMVelocity)


def test_a_card_and_weights_of_another_model_are_kept(official, tmp_path, capsys):
    for name in ("README.md", "model.safetensors"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        assert run(tmp_path / "official.pth", folder, "--config", tmp_path / "official.json") == 1
        assert name in capsys.readouterr().err
        assert (folder / name).read_text() == "mine"


def test_a_source_is_never_replaced_by_its_result(official, tmp_path, capsys):
    source = tmp_path / "out" / "model.safetensors"
    source.parent.mkdir()
    save_file(official, source)
    assert run(source, source.parent, "--config", tmp_path / "official.json", "--overwrite") == 1
    assert "replace its source" in capsys.readouterr().err
    assert same_bits(load_file(source), official)


def fails(capsys, *arguments: object) -> str:
    assert run(*arguments) == 1
    return capsys.readouterr().err


def test_wrong_requests_are_explained(official, tmp_path, capsys):
    source, config, out = tmp_path / "official.pth", tmp_path / "official.json", tmp_path / "out"
    assert "expected one of cifar10_ve_aug" in fails(capsys, source, out, "--preset", "cifar10")
    assert "both name the configuration" in fails(capsys, source, out, "--preset", "imagenet64", "--config", config)
    assert "no readable JSON" in fails(capsys, source, out, "--config", source)
    assert "rectified_flow/EDM" in fails(capsys, source, out, "--config", config, "--model", "EDMVelocty")
    assert "with --reverse the model knows" in fails(
        capsys, source, out / "x.pth", "--reverse", "--preset", "imagenet64"
    )
    assert main(["convert", "rectified_flows", str(source), str(out)]) == 1
    assert "did you mean rectified_flow?" in capsys.readouterr().err
    torch.save({"epoch": 3, "w": torch.zeros(2)}, tmp_path / "other.pth")
    assert "holds entries epoch, w" in fails(capsys, tmp_path / "other.pth", out, "--config", config)
    torch.save({**official, "model.extra": torch.zeros(2)}, tmp_path / "extra.pth")
    assert "1 unexpected" in fails(capsys, tmp_path / "extra.pth", out, "--config", config)
    assert not out.exists()


def test_values_that_would_be_rounded_are_refused(official, tmp_path, capsys):
    torch.save({name: value.double() + 1e-12 for name, value in official.items()}, tmp_path / "double.pth")
    error = fails(capsys, tmp_path / "double.pth", tmp_path / "out", "--config", tmp_path / "official.json")
    assert "does not survive the conversion" in error


def test_api_is_strict(official):
    model = visionseq.from_official("rectified_flow", official, SONG)
    assert not model.training
    assert same_bits(convert.to_official("rectified_flow", model), official)
    with pytest.raises(CheckpointError, match="1 missing"):
        visionseq.from_official("rectified_flow", dict(list(official.items())[1:]), SONG)
    with pytest.raises(ConfigError, match="did you mean rectified_flow"):
        visionseq.from_official("rectifiedflow", official, SONG)


def test_preset_is_found_by_its_shapes(official, monkeypatch):
    other = {**SONG, "model_channels": 32}
    presets = {"huge": {**SONG, "model_channels": 4096}, "other": other, "this": SONG, "alike": dict(SONG), "adm": ADM}
    monkeypatch.setattr(rectified_flow_convert, "presets", lambda: presets)
    assert convert.fitting_presets("rectified_flow", official) == ["this", "alike"]
    assert convert.fitting_presets("rectified_flow", official_state(other)) == ["other"]
    assert convert.fitting_presets("rectified_flow", {"w": torch.zeros(3)}) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_ve_aug", "afhq64_ve_aug", "imagenet64"])
def test_official_sizes_convert_without_a_config(name, tmp_path, capsys):
    values = convert.preset_configs("rectified_flow")[name]
    kind = {"SongUNet": "songunet", "DhariwalUNet": "adm"}[values["type"]]
    state = official_state({"unet_type": kind, **{key: value for key, value in values.items() if key != "type"}})
    torch.save(state, tmp_path / "official.pth")
    assert run(tmp_path / "official.pth", tmp_path / "out") == 0
    assert name in capsys.readouterr().out
    assert run(tmp_path / "out", tmp_path / "back.pth", "--reverse") == 0
    assert same_bits(torch.load(tmp_path / "back.pth", weights_only=True), state)
