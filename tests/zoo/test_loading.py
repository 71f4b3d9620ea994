"""`visionseq.load`: zoo names, run folders, single files; offline; what a miss says."""

import json
from pathlib import Path

import pytest
import torch

import visionseq
from visionseq.errors import CheckpointError, ConfigError, ZooError
from visionseq.metrics.features import FeatureCNN
from visionseq.rectified_flow.model import EDMVelocity
from visionseq.zoo import table
from visionseq.zoo.loading import load_as


@pytest.fixture
def entry_files(tiny_model, tmp_path) -> dict[str, bytes]:
    tiny_model.save_pretrained(tmp_path / "saved")
    return {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}


def checkpoint_of(model: EDMVelocity, averaged_offset: float | None = None) -> dict[str, object]:
    checkpoint = {
        "visionseq": model.description.to_json(),
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}
        | {"teacher.w": torch.zeros(1)},
    }
    if averaged_offset is not None:
        checkpoint["ema"] = {name: value.detach() + averaged_offset for name, value in model.named_parameters()}
    return checkpoint


@pytest.fixture
def run_folder(tiny_model, tmp_path) -> Path:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint_of(tiny_model, averaged_offset=1.0), tmp_path / "run/checkpoints/last.ckpt")
    return tmp_path / "run"


def test_run_folder_gives_the_averaged_weights(run_folder, tiny_model):
    for path in (run_folder, run_folder / "checkpoints" / "last.ckpt"):
        loaded = visionseq.load(path)
        assert not loaded.training
        assert loaded.preprocessing == tiny_model.preprocessing
        for averaged, raw in zip(loaded.parameters(), tiny_model.parameters(), strict=True):
            assert torch.equal(averaged, raw + 1)


def test_run_without_averaging_gives_the_raw_weights(tiny_model, tmp_path):
    torch.save(checkpoint_of(tiny_model), tmp_path / "x.ckpt")
    loaded = visionseq.load(tmp_path / "x.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), tiny_model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("visionseq"), "not written by visionseq's trainer; `visionseq convert`"),
        (lambda c: c.update(state_dict=3), "`state_dict` and `ema` must be tables"),
        (lambda c: c.update(ema={"model.x": 3}), "is int, expected a tensor"),
        (lambda c: c.update(ema={"nowhere": torch.zeros(2)}), "1 unexpected"),
        (lambda c: c["visionseq"].update(model="Nothing"), "does not know"),
        (lambda c: c.update(state_dict={}), "missing"),
    ],
)
def test_strange_checkpoints_are_refused(tiny_model, tmp_path, change, message):
    checkpoint = checkpoint_of(tiny_model)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=message):
        visionseq.load(tmp_path / "x.ckpt")


def test_other_single_files_point_to_convert(tmp_path):
    torch.save({}, tmp_path / "official.pth")
    with pytest.raises(CheckpointError, match="visionseq convert"):
        visionseq.load(tmp_path / "official.pth")


def test_entry_shipped_beside_the_index_is_used_in_place(entry_files, write_index, file_entry, own_cache, monkeypatch):
    index = write_index(tiny={name: file_entry(content, f"tiny/{name}") for name, content in entry_files.items()})
    (index.parent / "tiny").mkdir()
    for name, content in entry_files.items():
        (index.parent / "tiny" / name).write_bytes(content)
    monkeypatch.setenv("VISIONSEQ_OFFLINE", "1")
    assert isinstance(visionseq.load("tiny"), EDMVelocity)
    assert not own_cache.exists()
    monkeypatch.delenv("VISIONSEQ_OFFLINE")
    weights = index.parent / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ZooError, match=r"model\.safetensors cannot be fetched"):
        visionseq.load("tiny")


def test_entry_is_downloaded_once_and_then_works_offline(
    entry_files, write_index, file_entry, serve, own_cache, monkeypatch
):
    server = serve()
    server.files.update(entry_files)
    write_index(tiny={name: file_entry(content, server.url(name)) for name, content in entry_files.items()})
    with pytest.raises(ZooError, match=f"tiny: .* is absent in {own_cache}.*, and the network is switched off"):
        visionseq.load("tiny", local_files_only=True)
    visionseq.load("tiny")
    requests = len(server.requests)
    visionseq.load("tiny")
    visionseq.load("tiny", local_files_only=True)
    monkeypatch.setenv("VISIONSEQ_OFFLINE", "1")
    visionseq.load("tiny")
    assert len(server.requests) == requests == 3
    monkeypatch.delenv("VISIONSEQ_OFFLINE")
    visionseq.load("tiny", force_download=True)
    assert len(server.requests) == 6


def test_damaged_cache_is_fetched_again(entry_files, write_index, file_entry, serve, own_cache):
    server = serve()
    server.files.update(entry_files)
    write_index(tiny={name: file_entry(content, server.url(name)) for name, content in entry_files.items()})
    visionseq.load("tiny")
    (weights,) = own_cache.rglob("model.safetensors")
    weights.write_bytes(bytes(len(entry_files["model.safetensors"])))
    visionseq.load("tiny")
    assert weights.read_bytes() == entry_files["model.safetensors"]


def test_unknown_name_answers_with_the_nearest(write_index, file_entry):
    files = {name: file_entry(b"x", f"https://example.org/{name}") for name in ("model.safetensors", "config.json")}
    write_index(**{"rf-digits-edm": files, "rf-fashion-edm": files, "features-digits": files})
    with pytest.raises(ZooError, match=r"no model 'rf-digit-edm'; nearest: rf-digits-edm.*looked in .*index\.yaml"):
        visionseq.load("rf-digit-edm")
    assert {"rf-digits-edm", "rf-fashion-edm"} <= set(visionseq.list_models("rf-*-edm"))


def test_a_folder_of_the_same_name_does_not_hide_an_entry(
    entry_files, write_index, file_entry, serve, tmp_path, monkeypatch
):
    server = serve()
    server.files.update(entry_files)
    write_index(tiny={name: file_entry(content, server.url(name)) for name, content in entry_files.items()})
    (tmp_path / "work" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert isinstance(visionseq.load("tiny"), EDMVelocity)


def test_folder_without_a_model_says_what_was_expected(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"neither a model folder \(config.json\) nor a run folder \(checkpoints/last.ckpt\)"
    ):
        visionseq.load(tmp_path)


@pytest.mark.parametrize(("room", "model"), table.loadable_models())
def test_every_class_of_the_table_exists_under_its_names(room, model):
    cls = table.model_class(room, model, "test")
    assert (cls.room, cls.__name__) == (room, model)


@pytest.mark.parametrize("name", visionseq.list_models())
def test_shipped_entries_load_and_are_as_the_index_says(name, monkeypatch):
    from visionseq.zoo import fetch_entry, info, verify

    monkeypatch.setenv("VISIONSEQ_OFFLINE", "1")
    entry = info(name)
    assert set(verify(name).values()) == {"ok"}
    folder = fetch_entry(entry)
    model = visionseq.load(name)
    assert (model.room, type(model).__name__) == (entry.room, entry.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters
    assert entry.files["model.safetensors"].size < 8_000_000
    assert model.preprocessing, "inference needs to know the preprocessing"
    assert entry.licence in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["model"] == entry.model


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such folder .*hf://org/repo@revision"):
        visionseq.load(tmp_path / "nowhere")


def test_a_model_of_another_class_is_refused_where_one_class_is_needed(run_folder, tiny_model):
    assert isinstance(load_as(type(tiny_model), run_folder), type(tiny_model))
    with pytest.raises(ConfigError, match=rf"{run_folder} is a EDMVelocity, expected a FeatureCNN"):
        load_as(FeatureCNN, run_folder)
