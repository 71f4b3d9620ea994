"""The mixers' claim: the model's read-outs, the verdicts, the page."""

import json

import pytest
import torch

from visionseq.claims.mixers import experiment
from visionseq.claims.mixers.report import average, verdicts, write_report

AS_EXPECTED = {
    "xLSTM": {"mean": 0.98, "first": 0.94, "far": 0.8},
    "RWKV6": {"mean": 0.96, "first": 0.83, "far": 0.7},
    "Mamba": {"mean": 0.96, "first": 0.5, "far": 0.4},
    "RetNet": {"mean": 0.94, "first": 0.65, "far": 0.09},
    "TTT": {"mean": 0.92, "first": 0.08, "far": 0.1},
}
SECONDS = {
    "mlstm: scan": {256: 1e-6, 1024: 1e-6},
    "mlstm: parallel form, quadratic": {256: 1e-6, 1024: 4e-6},
}


@pytest.mark.parametrize("name", experiment.BLOCKS)
@pytest.mark.parametrize("empty", experiment.READ_OUTS.values())
def test_the_image_reaches_the_read_out_only_if_the_block_lets_it(name: str, empty: int):
    """The gradient of the read token with respect to the pixels tells who can see them at all."""
    torch.manual_seed(0)
    model = experiment.Classifier(experiment.BLOCKS[name](), empty)
    pixels = torch.rand(2, experiment.PIXELS, requires_grad=True)
    model(pixels).square().sum().backward()
    sees = pixels.grad.abs().sum() > 0
    blind = (name == "TTT" and empty) or (name == "RetNet" and empty > 1)
    assert sees != blind


def test_verdicts_follow_the_numbers():
    assert all(verdicts(AS_EXPECTED, SECONDS).values())
    leaking = AS_EXPECTED | {"TTT": {"mean": 0.92, "first": 0.5, "far": 0.1}}
    found = verdicts(leaking, {"mlstm: scan": {256: 1e-6, 1024: 4e-6}})
    assert not found["TTT never does so"]
    assert not found["the scans' time grows linearly with the length"]


def test_page_and_json(tmp_path):
    other = {name: {key: value + 0.01 for key, value in row.items()} for name, row in AS_EXPECTED.items()}
    seeds = {0: AS_EXPECTED, 1: other}
    page = write_report(tmp_path, seeds, SECONDS, {"epochs": 15}, {"processor": "some"}).read_text()
    assert "| TTT | 0.925 (0.920-0.930) | 0.085 (0.080-0.090) |" in page
    assert "TTT never does so: **holds**" in page
    assert json.loads((tmp_path / "mixers.json").read_text())["mean"]["TTT"]["mean"] == pytest.approx(0.925)
    assert average(seeds)["xLSTM"]["far"] == pytest.approx(0.805)


def test_training_teaches():
    """A few epochs are far better than chance."""
    recipe = experiment.Recipe(epochs=4)
    train, test = experiment._digits(0)
    torch.manual_seed(0)
    model = experiment.Classifier(experiment.BLOCKS["xLSTM"](), 0)
    experiment._train(model, train, recipe, 0)
    assert experiment._accuracy(model, test) > 0.5
