"""`visionseq pairs`: a run, a continuation, refusals."""

import pytest
import torch

from visionseq.cli.console import run
from visionseq.data.pairs import open_pairs
from visionseq.rectified_flow.model import EDMDenoiser, build_network


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    network = build_network({"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1})
    EDMDenoiser(network).save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.mark.parametrize("layout", ["shards", "zip"])
def test_generates_and_continues(tmp_path, model, capsys, layout):
    out = tmp_path / "pairs"
    command = ["pairs", "--model", model, "--steps", "3", "--out", str(out), "--format", layout]
    assert run([*command, "--num-pairs", "5"]) == 0
    assert "5 pairs" in capsys.readouterr().out
    assert run([*command, "--num-pairs", "7"]) == 0
    assert "7 pairs" in capsys.readouterr().out
    assert len(open_pairs(out)) == 7
    assert run([*command, "--num-pairs", "7", "--seed", "1"]) == 1
    assert "another recipe" in capsys.readouterr().err


def test_inverts_digits(tmp_path, model, capsys):
    command = ["pairs", model, "--steps", "3", "--invert", "digits", "--out", str(tmp_path / "pairs")]
    assert run(command) == 0
    assert len(open_pairs(tmp_path / "pairs")) == 1797
    assert run([*command, "--format", "zip"]) == 1
    assert "use shards" in capsys.readouterr().err
    assert run(["pairs", model, "--invert", "nowhere"]) == 1
    assert "'nowhere', expected one of digits, fashion_mnist or a folder" in capsys.readouterr().err


def test_help_has_examples(capsys):
    assert run(["pairs", "--help"]) == 0
    assert "visionseq pairs --model rf-digits-edm --num-pairs 30000" in capsys.readouterr().out
