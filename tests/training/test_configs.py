"""Every file below configs/ is complete, short, and accepted by the parser of `visionseq fit`."""

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentError

from visionseq.places import shipped_folder
from visionseq.rectified_flow.model import build_network
from visionseq.rectified_flow.presets import PRESETS
from visionseq.training.cli import VisionseqCLI

FOLDER = shipped_folder("configs")
FILES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.yaml"))
LONGEST = 60  # a configuration reads like the paper's table, on one screen


class ParserOnly(VisionseqCLI):
    """The parser of `visionseq fit`, and nothing after it."""

    def parse_arguments(self, parser, args):
        raise Built(parser)


class Built(Exception):
    pass


@pytest.fixture(scope="module")
def parser():
    with pytest.raises(Built) as built:  # once for all files: it takes a second
        ParserOnly("fit", [])
    return built.value.args[0]


def parse(parser, file: Path):
    return parser.parse_args(["fit", "--config", str(file)]).fit


def settings(name: str) -> dict:
    return yaml.safe_load((FOLDER / "rectified_flow" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", FILES, ids=str)
def test_every_config_parses_and_is_short(parser, name):
    config = parse(parser, FOLDER / name)
    assert config.model.class_path.startswith("visionseq.")
    assert config.data.init_args.batch_size > 0
    assert config.trainer.max_steps > 0
    lines = (FOLDER / name).read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) <= LONGEST


def test_a_misspelt_argument_does_not_parse(parser, tmp_path):
    text = (FOLDER / "rectified_flow" / "digits_edm.yaml").read_text()
    file = tmp_path / "wrong.yaml"
    file.write_text(text.replace("batch_size:", "batchsize:"))
    with pytest.raises(ArgumentError, match="batch"):
        parse(parser, file)


@pytest.mark.parametrize("name", ["cifar10_edm", "cifar10_2rf_a"])
def test_networks_written_out_are_the_official_one(name):
    with torch.device("meta"):
        network = build_network(settings(name)["model"]["init_args"]["network"])
        official = build_network(PRESETS["cifar10_ve_aug"].network)
    assert network.config == official.config
    assert sum(parameter.numel() for parameter in network.parameters()) == 56_397_827


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("a", "b", {"network", "init", "batch_size"}),
        ("b", "c", {"time", "a"}),
        ("c", "d", {"loss"}),
        ("d", "e", {"loss", "divt", "perceptual"}),
        ("e", "f", {"divt"}),
    ],
)
def test_rows_of_the_ablation_differ_as_the_paper_says(before, after, changed):
    first, second = settings(f"cifar10_2rf_{before}"), settings(f"cifar10_2rf_{after}")
    rest = {key for key in first | second if key not in ("model", "data")}
    assert {key: first[key] for key in rest} == {key: second[key] for key in rest}
    tables = [
        config["model"]["init_args"] | {"data": config["data"]["class_path"]} | config["data"]["init_args"]
        for config in (first, second)
    ]
    names = tables[0].keys() | tables[1].keys()
    assert {name for name in names if tables[0].get(name) != tables[1].get(name)} == changed


def test_imagenet_accumulates_to_the_published_batch():
    config = settings("imagenet64_2rf_pp")
    batch = config["data"]["init_args"]["batch_size"] * config["trainer"]["accumulate_grad_batches"]
    assert batch == 2048
