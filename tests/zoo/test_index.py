"""The index: what is accepted, what is refused with which words, and how entries are made."""

import copy
import json

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import visionseq
from visionseq.errors import VisionseqError, ZooError
from visionseq.zoo.index import list_models, read_index
from visionseq.zoo.publish import add, push

FILE = {"sha256": "a" * 64, "size": 5, "sources": ["https://example.org/model.safetensors?download=true"]}
CONFIG = {"sha256": "b" * 64, "size": 5, "sources": ["tiny/config.json", "hf://org/repo@v1/config.json"]}
MODEL = {
    "room": "rectified_flow",
    "model": "EDMVelocity",
    "description": "A flow.",
    "licence": "MIT",
    "parameters": 12,
    "numbers": {"distance": 1.5},
    "files": {"model.safetensors": FILE, "config.json": CONFIG},
}


def write(path, models) -> str:
    path.write_text(yaml.safe_dump({"format": 1, "models": models}))
    return str(path)


def test_entry_is_read(tmp_path):
    entry = read_index(write(tmp_path / "index.yaml", {"tiny": MODEL}))["tiny"]
    assert (entry.name, entry.room, entry.parameters, entry.size) == ("tiny", "rectified_flow", 12, 10)
    assert entry.numbers == {"distance": 1.5}
    assert entry.folder == tmp_path


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["files", "model.safetensors", "sha256"], "abc", "64 hexadecimal digits"),
        (["files", "model.safetensors", "sha256"], None, "sha256 is None, expected str"),
        (["files", "model.safetensors", "size"], "5", "size is '5', expected int"),
        (["files", "model.safetensors", "size"], -1, "expected a size"),
        (["files", "model.safetensors", "sources"], [], "at least one source"),
        (["files", "model.safetensors", "sources"], ["https://x.org/model.pth"], r"is no \.safetensors file"),
        (
            ["files", "model.safetensors", "sources"],
            ["https://x.org/m.pth?x=.safetensors"],
            r"is no \.safetensors file",
        ),
        (["files", "model.safetensors", "sources"], ["../x/model.safetensors"], "below the index"),
        (["files", "model.safetensors", "sources"], ["/etc/model.safetensors"], "below the index"),
        (["files", "model.safetensors", "sources"], ["ftp://x.org/model.safetensors"], "below the index"),
        (["files", "model.safetensors", "sources"], [3], "expected a path or an address"),
        (["files", "model.pkl"], FILE, r"names 'model\.pkl'"),
        (["files", "../model.safetensors"], FILE, "names"),
        (["files", "config.json"], None, "expected a table"),
        (["files"], {"model.safetensors": FILE}, r"lacks config\.json"),
        (["room"], 3, "room is 3, expected str"),
        (["parameters"], True, "parameters is True, expected int"),
        (["numbers"], {"a": {"b": 1}}, "flat table"),
    ],
)
def test_wrong_entries_are_refused(tmp_path, place, value, message):
    model = copy.deepcopy(MODEL)
    inner = model
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ZooError, match=message):
        read_index(write(tmp_path / "index.yaml", {"tiny": model}))


@pytest.mark.parametrize("name", ["Upper", "../up", "a b", "", ".hidden", 3])
def test_wrong_names_are_refused(tmp_path, name):
    with pytest.raises(ZooError, match="a name consists of"):
        read_index(write(tmp_path / "index.yaml", {name: MODEL}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "format: 2\nmodels: {}",
        "format: 1\nmodels: []",
        "format: 1\nmodels: {x: [}",
        "!!python/object/apply:os.system ['true']",
        "[" * 5000,
        "\0",
        "x" * 5_000_000,
    ],
)
def test_what_is_no_index_is_refused(tmp_path, text):
    (tmp_path / "index.yaml").write_text(text)
    with pytest.raises(ZooError, match=r"index\.yaml"):
        read_index(tmp_path / "index.yaml")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_indexes_raise_only_our_errors(tmp_path, data):
    text = bytearray(yaml.safe_dump({"format": 1, "models": {"tiny": MODEL}}).encode())
    position = data.draw(st.integers(0, len(text) - 1))
    text[position : position + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=8))
    (tmp_path / "index.yaml").write_bytes(text)
    try:
        read_index(tmp_path / "index.yaml")
    except VisionseqError as error:
        assert "index.yaml" in str(error)  # noqa: PT017


def test_earlier_indexes_win_and_all_are_listed(tmp_path, monkeypatch):
    first = write(tmp_path / "a.yaml", {"tiny": {**MODEL, "licence": "first"}})
    second = write(tmp_path / "b.yaml", {"tiny": {**MODEL, "licence": "second"}, "other": MODEL})
    assert read_index(first, second)["tiny"].licence == "first"
    monkeypatch.setenv("VISIONSEQ_ZOO_INDEX", f"{first}:{second}")
    assert {"tiny", "other"} <= set(list_models())
    assert visionseq.list_models("t?ny") == ["tiny"]


def test_add_measures_copies_and_renews(tiny_model, tmp_path, monkeypatch):
    tiny_model.save_pretrained(tmp_path / "out")
    index = tmp_path / "zoo" / "index.yaml"
    with pytest.raises(ZooError, match="needs a description"):
        add(tmp_path / "out", "tiny-flow", index, licence="MIT")
    entry = add(tmp_path / "out", "tiny-flow", index, description="A flow.", licence="MIT", numbers={"a": 1})
    assert entry.parameters == sum(parameter.numel() for parameter in tiny_model.parameters())
    assert set(entry.files) == {"model.safetensors", "config.json", "README.md"}
    monkeypatch.setenv("VISIONSEQ_ZOO_INDEX", str(index))
    assert visionseq.load("tiny-flow").config == tiny_model.config

    tiny_model.preprocessing = {"size": 8}
    tiny_model.save_pretrained(tmp_path / "out", card="# new\n")
    renewed = add(tmp_path / "out", "tiny-flow", index, licence="Apache-2.0")
    assert (renewed.description, renewed.licence, renewed.numbers) == ("A flow.", "Apache-2.0", {"a": 1})
    assert visionseq.load("tiny-flow").preprocessing == {"size": 8}
    add(tmp_path / "zoo" / "tiny-flow", "tiny-flow", index)  # in place

    remote = add(
        tmp_path / "out", "far", index, description="x", licence="MIT", base_urls=("https://x.org/m/", "hf://o/r@v")
    )
    assert remote.files["config.json"].sources == ("https://x.org/m/config.json", "hf://o/r@v/config.json")
    assert read_index(index).names() == ["far", "tiny-flow"]


def test_add_takes_a_runs_model_and_a_card(tiny_model, tmp_path):
    state = {f"model.{name}": value for name, value in tiny_model.state_dict().items()}
    torch.save({"visionseq": tiny_model.description.to_json(), "state_dict": state}, tmp_path / "last.ckpt")
    index = tmp_path / "zoo" / "index.yaml"
    add(tmp_path / "last.ckpt", "tiny", index, description="A flow.", licence="MIT", card="# The card\n")
    assert (tmp_path / "zoo" / "tiny" / "README.md").read_text() == "# The card\n"
    assert visionseq.load(tmp_path / "zoo" / "tiny").config == tiny_model.config


def test_add_refuses_weights_too_large_to_ship(tiny_model, tmp_path, monkeypatch):
    tiny_model.save_pretrained(tmp_path / "out")
    monkeypatch.setattr("visionseq.zoo.publish.SHIPPED_BYTES", 1000)
    with pytest.raises(ZooError, match="at most 1000 ship"):
        add(tmp_path / "out", "tiny", tmp_path / "zoo/index.yaml", description="x", licence="MIT")
    assert not (tmp_path / "zoo").exists()


def test_add_refuses_a_folder_without_a_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(VisionseqError, match="expected str"):
        add(tmp_path, "tiny", tmp_path / "index.yaml", description="x", licence="MIT")


def test_push_needs_a_repository_and_a_network(tiny_model, tmp_path, monkeypatch):
    tiny_model.save_pretrained(tmp_path)
    with pytest.raises(ZooError, match="expected org/repo"):
        push(tmp_path, "no-organisation")
    monkeypatch.setenv("VISIONSEQ_OFFLINE", "1")
    with pytest.raises(ZooError, match="org/repo cannot be pushed: the network is switched off"):
        push(tmp_path, "org/repo")


CONVERSION = {
    "room": "lion",
    "preset": "some_preset",
    "page": "https://example.org/weights",
    "description": "Someone's weights.",
    "licence": "MIT",
    "parameters": 12,
}


def index_with(tmp_path, value) -> str:
    path = tmp_path / "index.yaml"
    path.write_text(yaml.safe_dump({"format": 1, "models": {"tiny": MODEL}, "conversions": {"official": value}}))
    return str(path)


def test_official_weights_are_told_how_to_get(tmp_path):
    index = read_index(index_with(tmp_path, CONVERSION))
    assert index.names() == ["tiny"]
    with pytest.raises(ZooError, match=r"https://example\.org/weights.*convert lion FILE\.pth official --preset"):
        index["official"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("page", "http://example.org", "expected https://"),
        ("preset", None, "preset is None"),
        ("parameters", "12", "parameters is '12'"),
        ("sha256", "a" * 64, "unknown sha256, expected room, preset"),
    ],
)
def test_a_wrong_conversion_is_refused(tmp_path, key, value, message):
    with pytest.raises(ZooError, match=f"conversion 'official'.*{message}"):
        read_index(index_with(tmp_path, {**CONVERSION, key: value}))


def test_adding_a_model_keeps_the_conversions(tmp_path):
    folder = tmp_path / "folder"
    visionseq.load("features-digits").save_pretrained(folder)
    index = index_with(tmp_path, CONVERSION)
    add(folder, "features", index, description="Scores digits.", licence="MIT")
    assert list(read_index(index).conversions) == ["official"]


def test_the_shipped_conversions_name_presets_of_ours_with_their_parameters():
    from visionseq.lion.model import LionDetector
    from visionseq.lion.presets import preset

    conversions = read_index().conversions
    assert len(conversions) == 5
    for own in conversions.values():
        with torch.device("meta"):
            network = LionDetector.from_config(preset(own.preset))
        assert sum(p.numel() for p in network.parameters()) == own.parameters
