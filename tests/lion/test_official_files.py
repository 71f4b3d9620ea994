"""Configuration files as an official checkout has them: bases are followed, and nothing else than data is read."""

import inspect

import pytest
import torch
import yaml
from official_checkout import NAMES, make_checkout

from visionseq import zoo
from visionseq.cli.console import run
from visionseq.convert import to_official
from visionseq.errors import ConfigError
from visionseq.lion import LionDetector, heads
from visionseq.lion.convert import detector_values
from visionseq.lion.heads.iou_branch import IouRectifier
from visionseq.lion.heads.suppression import Suppression
from visionseq.lion.heads.transfusion_targets import Costs
from visionseq.lion.layer import OPERATORS
from visionseq.lion.model import BACKBONES_2D, BACKBONES_3D, VFES
from visionseq.lion.official_files import read_config
from visionseq.lion.presets import preset, preset_names


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("checkout"))


def complete(values: dict) -> dict:
    """The values of a detector with all defaults filled in, in one form."""
    parts = {"vfe": VFES, "backbone_3d": BACKBONES_3D, "backbone_2d": BACKBONES_2D, "dense_head": {
        name: getattr(heads, name) for name in heads.__all__}}  # fmt: skip
    full = dict(values)
    for part, kinds in parts.items():
        if full.get(part) is not None:
            options = dict(full[part])
            kind = options.pop("type")
            full[part] = {"type": kind, **_defaults(kinds[kind].__init__), **options}
    operator = full["backbone_3d"]["operator"]
    from visionseq.lion import operators

    block = getattr(operators, OPERATORS[operator["name"]])
    full["backbone_3d"]["operator"] = {**_defaults(block.__init__), **operator}
    head, classes = full["dense_head"], len(full["class_names"])
    if "nms" in head:
        nms = head["nms"] or {"thresholds": 0.2, "pre": 1000, "post": 83}
        head["nms"] = _repeated(vars(Suppression(**nms))["_limits"], classes), nms.get("swap_dims", False)
    if head.get("iou_rectifier") is not None:
        head["iou_rectifier"] = IouRectifier(head["iou_rectifier"], classes).weights
    if "costs" in head:
        head["costs"] = vars(Costs(**(head["costs"] or {})))
    if "class_names_each_head" in head:
        head["class_names_each_head"] = head["class_names_each_head"] or [full["class_names"]]
    return _plain(full)


def _defaults(init) -> dict:
    empty = inspect.Parameter.empty
    return {name: p.default for name, p in inspect.signature(init).parameters.items() if p.default is not empty}


def _repeated(limits: dict, classes: int) -> dict:
    return {name: values * classes if len(values) == 1 else values for name, values in limits.items()}


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", NAMES)
def test_every_official_file_describes_the_configuration_of_its_name(checkout, name):
    read = complete(detector_values(read_config(checkout[name])))
    assert read == complete(preset(name))


def test_the_files_are_all_of_the_official_ones():
    assert sorted(NAMES) == preset_names()


@pytest.mark.parametrize("name", ["second_with_lion_TTT_64dim", "second_with_lion_xLSTM_64dim"])
def test_a_checkpoint_converts_with_the_file_of_the_checkout(checkout, name, tmp_path, monkeypatch):
    """From whatever folder the command is called."""
    torch.manual_seed(0)
    model = LionDetector.from_config(preset(name))
    torch.save({"model_state": to_official("lion", model), "epoch": 80, "it": 7}, tmp_path / "official.pth")
    monkeypatch.chdir(tmp_path)
    assert run(["convert", "lion", "official.pth", "out", "--config", str(checkout[name])]) == 0
    loaded = zoo.load(tmp_path / "out")
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    assert loaded.preprocessing["features"] == ["x", "y", "z", "intensity"]


def test_bases_of_bases_are_merged_section_by_section(tmp_path):
    (tmp_path / "tools" / "cfgs").mkdir(parents=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "tools" / "cfgs" / "first.yaml").write_text(
        "A: {x: 1, y: [1, 2], z: 1e-3}\nB: {_BASE_CONFIG_: second.yaml, v: 4}"
    )
    (tmp_path / "tools" / "cfgs" / "second.yaml").write_text("\ufeffu: 3\r\nv: 3\r\n")
    path = tmp_path / "a" / "b" / "model.yaml"
    path.write_text("_BASE_CONFIG_: cfgs/first.yaml\nA: {y: [3]}\nC: {list: [{_BASE_CONFIG_: cfgs/second.yaml}]}")
    values = {"A": {"x": 1, "y": [3], "z": 0.001}, "B": {"u": 3, "v": 4}, "C": {"list": [{"u": 3, "v": 3}]}}
    assert read_config(path) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_CONFIG_: cfgs/none.yaml", "_BASE_CONFIG_ cfgs/none.yaml is missing, searched in "),
        ("_BASE_CONFIG_: model.yaml", "_BASE_CONFIG_ leads back to "),
        ("_BASE_CONFIG_: [1]", r"_BASE_CONFIG_ \[1\], expected a path"),
        ("- 1", "list, expected names and values"),
        ("a: [", "no readable YAML or JSON"),
        ("a: !!python/object/apply:os.system [echo]", "no readable YAML or JSON"),
        ("a: " + "[" * 5000 + "]" * 5000, "no readable YAML or JSON"),
        ("a: &a [1, 1]\nb: " + yaml.safe_dump(["x" * 50] * 5000), "bytes, expected a configuration of at most"),
        ("a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)), "aliases"),
        ("a: [" + "1," * 99_990 + "1]\nb: [" + "1," * 20 + "]", "bytes, expected|more than 100,000 values"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, text, message):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_config(tmp_path / "model.yaml")
    assert "model.yaml" in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: not readable: No such file"):
        read_config(tmp_path / "none.yaml")
