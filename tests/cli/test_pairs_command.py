"""`visionseq pairs`: a run, a continuation, refusals."""

import numpy as np
import pytest
import torch

from visionseq.cli.console import run
from visionseq.data.pairs import open_pairs
from visionseq.rectified_flow.model import EDMDenoiser, build_network
from visionseq.viz import save_png, to_pil


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


def test_inverts_as_many_as_asked_and_adds_the_rest_later(tmp_path, model, capsys):
    command = ["pairs", model, "--steps", "2", "--invert", "digits", "--batch-size", "4", "--out"]
    assert run([*command, str(tmp_path / "pairs"), "--num-pairs", "6"]) == 0
    assert "6 pairs" in capsys.readouterr().out
    assert run([*command, str(tmp_path / "pairs"), "--num-pairs", "9"]) == 0
    assert run([*command, str(tmp_path / "whole"), "--num-pairs", "9"]) == 0
    grown, whole = (open_pairs(tmp_path / name).batch(np.arange(9)) for name in ("pairs", "whole"))
    assert torch.equal(grown.noise, whole.noise)
    assert run([*command, str(tmp_path / "many"), "--num-pairs", "1798"]) == 1
    assert "num_pairs: 1798, the data set has 1797 images" in capsys.readouterr().err


def test_inverts_a_folder_without_its_damaged_images(tmp_path, model, capsys):
    for number in range(3):
        save_png(to_pil(torch.zeros(1, 1, 8, 8))[0], tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "3.png").write_bytes(b"damaged")
    command = ["pairs", model, "--steps", "2", "--invert", str(tmp_path / "images"), "--out"]
    assert run([*command, str(tmp_path / "none")]) == 1
    assert "3.png" in capsys.readouterr().err
    assert run([*command, str(tmp_path / "pairs"), "--skip-corrupt"]) == 0
    assert len(open_pairs(tmp_path / "pairs")) == 3


def test_help_has_examples(capsys):
    assert run(["pairs", "--help"]) == 0
    assert "visionseq pairs --model rf-digits-edm --num-pairs 30000" in capsys.readouterr().out
