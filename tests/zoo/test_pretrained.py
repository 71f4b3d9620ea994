"""Model folders: what is written, what is read back, and what is refused with which words."""

import json
import os
import struct
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import visionseq
from visionseq.errors import CheckpointError, ConfigError, VisionseqError, ZooError
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity
from visionseq.saving.weights import load_state, read_checkpoint, read_header, read_safetensors, write_safetensors


@pytest.fixture
def folder(tiny_model, tmp_path) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_folder_holds_three_files_and_round_trips(folder, tiny_model):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["library_name"] == "visionseq"
    assert (config["format"], config["room"], config["model"]) == (1, "rectified_flow", "EDMVelocity")
    assert (folder / "README.md").read_text().startswith("---\nlibrary_name: visionseq\n")
    for loaded in (
        visionseq.load(folder),
        EDMVelocity.from_pretrained(folder),
        EDMVelocity.from_pretrained(str(folder)),
    ):
        assert type(loaded) is EDMVelocity
        assert not loaded.training
        assert loaded.config == tiny_model.config
        assert loaded.preprocessing == {"size": 4, "channels": 1}
        assert same_state(loaded, tiny_model)


def test_card_is_written_and_an_existing_one_is_kept(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path, card="# mine\n")
    tiny_model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# mine\n"


def test_saving_is_deterministic(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "a")
    tiny_model.save_pretrained(tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_loading_leaves_the_random_state_alone(folder):
    before = torch.get_rng_state()
    visionseq.load(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_config_that_is_not_plain_json_is_refused(tiny_model, tmp_path):
    tiny_model.preprocessing = {"mean": torch.zeros(3)}
    with pytest.raises(ConfigError, match="not plain JSON"):
        tiny_model.save_pretrained(tmp_path)


def test_another_class_is_refused_with_a_way_out(folder):
    with pytest.raises(CheckpointError, match=r"holds rectified_flow/EDMVelocity, not EDMDenoiser; visionseq\.load"):
        EDMDenoiser.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"room": "rectified_flows"},
            r"rectified_flows/EDMVelocity, which visionseq does not know; nearest: rectified_flow",
        ),
        ({"model": "os.system"}, "does not know"),
        ({"model": "visionseq.rectified_flow.model.EDMVelocity"}, "does not know"),
        ({"format": 2}, "found format 2, expected 1"),
        ({"config": [1]}, r"`config` is \[1\], expected dict"),
        ({"room": 3}, "`room` is 3, expected str"),
        ({"preprocessing": "x"}, "`preprocessing` is 'x'"),
        ({"config": {"network": {"type": "NoSuchNet"}}}, "NoSuchNet"),
        ({"config": {}}, "does not build EDMVelocity"),
        ({"config": {"network": 5}}, "does not build EDMVelocity"),
    ],
)
def test_wrong_config_is_refused(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        visionseq.load(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, "\xff", '{"format": 1}', "{" + " " * 2_000_000 + "}"]
)
def test_damaged_config_is_refused(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        visionseq.load(folder)


def test_state_that_does_not_fit_is_a_table(folder):
    state = load_file(folder / "model.safetensors")
    names = list(state)
    del state[names[0]]
    state[names[1]] = state[names[1]].flatten()[:2].clone()
    state[names[2]] = state[names[2]].long()
    state["extra"] = torch.zeros(7)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as failure:
        visionseq.load(folder)
    message = str(failure.value)
    assert "1 missing, 1 unexpected, 1 of another shape, 1 of another kind" in message
    for kind, name in (("missing", names[0]), ("shape", names[1]), ("dtype", names[2]), ("unexpected", "extra")):
        assert any(line.split()[:2] == [kind, name] for line in message.splitlines())
    assert "found [7] float32" in message


def test_long_tables_are_cut(tiny_model):
    state = {f"unknown.{i}": torch.zeros(1) for i in range(100)} | tiny_model.state_dict()
    with pytest.raises(CheckpointError, match=r"\.\.\. and 76 more"):
        load_state(tiny_model, state, "file")


def test_what_is_missing_does_not_hide_what_is_there_instead(tiny_model):
    state = {f"module.{name}.{i}": tensor for name, tensor in tiny_model.state_dict().items() for i in range(20)}
    with pytest.raises(CheckpointError, match=r"(?s)missing, \d+ unexpected.*unexpected +module\..*more unexpected"):
        load_state(tiny_model, state, "file")


def test_nothing_is_copied_where_something_does_not_fit(tiny_model):
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    state = {name: value + 1 for name, value in list(before.items())[1:]}
    with pytest.raises(CheckpointError):
        load_state(tiny_model, state, "file")
    assert all(torch.equal(before[name], value) for name, value in tiny_model.state_dict().items())


def test_a_config_larger_than_its_weights_costs_no_memory(folder):
    network = {"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1, "hidden": 2_000_000, "num_blocks": 1}
    change_config(folder, config={"network": network})  # 16 TB of weights
    with pytest.raises(CheckpointError, match=r"it needs far more than the [\d,]+ values"):
        visionseq.load(folder)


def test_a_config_of_a_million_layers_is_refused_at_once(folder):
    network = {"type": "ResidualMLP", "img_resolution": 1, "in_channels": 1, "hidden": 1, "num_blocks": 1_000_000}
    change_config(folder, config={"network": network})
    with pytest.raises(CheckpointError, match=r"it needs far more than the [\d,]+ tensors"):
        visionseq.load(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [200_000, 200_000], "data_offsets": [0, 16]},
        {"shape": [200_000, 200_000], "data_offsets": [0, 160_000_000_000]},
        {"shape": [4], "data_offsets": [8, 24]},
        {"shape": [-2, -2], "data_offsets": [0, 16]},
        {"shape": [4], "data_offsets": [16, 0]},
    ],
    ids=str,
)
def test_a_shape_is_believed_only_where_the_file_has_its_bytes(tmp_path, entry):
    header = json.dumps({"a": {"dtype": "F32", **entry}}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(CheckpointError, match=r"x\.safetensors is no intact safetensors file"):
        read_header(file)


def test_half_precision_files_load_into_float32(folder, tiny_model):
    state = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")
    loaded = visionseq.load(folder)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())


def test_shared_tensors_are_written(tmp_path):
    tensor = torch.arange(6.0)
    write_safetensors(tmp_path / "x.safetensors", {"a": tensor, "b": tensor, "c": tensor.reshape(2, 3).T})
    state = read_safetensors(tmp_path / "x.safetensors")
    assert torch.equal(state["a"], state["b"])
    assert torch.equal(state["c"], tensor.reshape(2, 3).T)


def test_header_tells_shapes_without_reading_values(folder):
    header = read_header(folder / "model.safetensors")
    state = load_file(folder / "model.safetensors")
    assert {name: (value.shape, value.dtype) for name, value in header.items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }
    assert all(value.is_meta for value in header.values())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_weights_are_refused(tmp_path, data):
    intact = tmp_path / "intact.safetensors"
    if not intact.exists():
        save_file({"a": torch.zeros(3), "b": torch.ones(2, 2)}, intact)
    content = bytearray(intact.read_bytes())
    damage = data.draw(st.sampled_from(["truncate", "flip", "splice", "length", "replace"]))
    position = data.draw(st.integers(0, len(content) - 1))
    if damage == "truncate":
        del content[position:]
    elif damage == "flip":
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    elif damage == "splice":
        content[position:position] = data.draw(st.binary(min_size=1, max_size=40))
    elif damage == "length":
        content[:8] = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1)))
    else:
        content = bytearray(data.draw(st.binary(max_size=64)))
    (tmp_path / "x.safetensors").write_bytes(content)
    for read in (read_header, read_safetensors):
        try:
            read(tmp_path / "x.safetensors")  # a flipped bit of a value is another value
        except VisionseqError as error:
            assert "x.safetensors" in str(error)  # noqa: PT017


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content", [b"", b"junk", b"PK\3\4" + bytes(100), b"\x80\x04K\x01.", b"<html></html>", bytes(64)]
)
def test_unreadable_checkpoints_say_what_was_found(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth .*; found "):
        read_checkpoint(tmp_path / "x.pth")


def test_checkpoint_with_code_is_refused_unexecuted(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"state_dict": Bomb()}, tmp_path / "x.pth")
    with pytest.raises(
        CheckpointError, match=r"names the Python object `\w+\.mkdir`, and reading it could run code.*state dict alone"
    ):
        read_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_names_no_class_but_those_called_harmless(tmp_path):
    torch.save({"w": torch.ones(2), "args": Namespace(lr=0.1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"names the Python object `argparse\.Namespace`"):
        read_checkpoint(tmp_path / "x.pt")
    assert read_checkpoint(tmp_path / "x.pt", harmless=[Namespace])["args"].lr == 0.1
    with pytest.raises(CheckpointError, match="Namespace"):  # it was allowed for that one file
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["no-slash", "a/b/c", "org/repo@", "org/re po", "hf://x", "../up/x"])
def test_names_that_are_neither_folder_nor_repository(name):
    with pytest.raises(ZooError, match=r"org/repo"):
        EDMVelocity.from_pretrained(name)


def test_hub_repository_that_is_not_cached_names_the_cache(tmp_path):
    with pytest.raises(
        ZooError, match=f"config.json of hf://org/repo@v1: the network is switched off and the cache {tmp_path}"
    ):
        visionseq.load("hf://org/repo@v1", cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(ZooError, match="two revisions"):
        EDMVelocity.from_pretrained("org/repo@v1", revision="v2", local_files_only=True)


def test_hub_snapshot_loads_without_network(folder, tmp_path, tiny_model):
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--org--repo"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    for name, options in (
        ("hf://org/repo@v1", {}),
        ("hf-hub:org/repo", {"revision": "v1"}),
        (f"hf://org/repo@{commit}", {}),
    ):
        assert same_state(
            visionseq.load(name, cache_dir=tmp_path / "hub", local_files_only=True, **options), tiny_model
        )
    loaded = EDMVelocity.from_pretrained("org/repo", revision="v1", cache_dir=tmp_path / "hub", local_files_only=True)
    assert same_state(loaded, tiny_model)
