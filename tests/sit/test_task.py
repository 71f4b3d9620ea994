"""The room's training: what it draws, what it drops, what it learns, what it refuses."""

import pytest
import torch

from visionseq.data import Digits, ImageData
from visionseq.data.batch import ImageBatch
from visionseq.data.seeding import GlobalDraw
from visionseq.errors import ConfigError
from visionseq.optim.factory import OptimizerConfig
from visionseq.sit import SiTTask
from visionseq.training import fit

NETWORK = {"input_size": 8, "in_channels": 1, "hidden_size": 16, "depth": 1, "num_heads": 2, "num_classes": 10}
OPTIMIZER = OptimizerConfig(lr=1e-3, name="adamw")


def task(loss_weight: str = "none", **network) -> SiTTask:
    torch.manual_seed(0)
    tested = SiTTask({**NETWORK, **network}, OPTIMIZER, loss_weight)
    for parameter in tested.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return tested


def images(n: int = 8) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    return ImageBatch(torch.rand(n, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(n) % 10, torch.arange(n))


@pytest.mark.parametrize(("path", "prediction"), [("Linear", "velocity"), ("GVP", "score"), ("VP", "noise")])
def test_the_loss_depends_on_the_draw_alone(path, prediction):
    tested = task("likelihood", path=path, prediction=prediction)
    losses = [tested.loss(images(), GlobalDraw(seed)).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_two_processes_see_the_losses_of_one():
    tested, batch = task(class_dropout_prob=0.5), images()
    whole = tested.loss(batch, GlobalDraw(5))
    halves = [
        tested.loss(ImageBatch(**{k: v[rank::2] for k, v in vars(batch).items()}), GlobalDraw(5, rank=rank, world=2))
        for rank in (0, 1)
    ]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, rtol=1e-5, atol=1e-7)


def test_labels_are_dropped_by_the_draw_and_never_in_evaluation():
    tested, batch = task(class_dropout_prob=0.999), images(64)
    shuffled = ImageBatch(batch.image, batch.label.flip(0), batch.index)
    dropped = [tested.loss(b, GlobalDraw(3)).item() for b in (batch, shuffled)]
    assert dropped[0] == pytest.approx(dropped[1], rel=1e-4)
    tested.eval()
    kept = [tested.loss(b, GlobalDraw(3)).item() for b in (batch, shuffled)]
    assert kept[0] != pytest.approx(kept[1], rel=1e-3)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    tested = SiTTask(NETWORK, OptimizerConfig(lr=3e-3, name="adamw"))
    digits = Digits()
    batch = ImageBatch(digits.images[:256], digits.labels[:256], torch.arange(256))
    before = tested.loss(batch, GlobalDraw(9)).item()
    fit(tested, ImageData(digits, 64), max_steps=40, ema=None, progress=False)
    assert tested.loss(batch, GlobalDraw(9)).item() < 0.8 * before
    assert tested.sample_images(rows=3).shape == (9, 1, 8, 8)


@pytest.mark.parametrize(
    ("network", "weight", "message"),
    [
        ({"width": 3}, "none", "SiT has no width"),
        ({"prediction": "data"}, "none", "prediction 'data'"),
        ({}, "snr", "loss_weight 'snr'"),
    ],
)
def test_settings_that_are_not_possible(network, weight, message):
    with pytest.raises(ConfigError, match=message):
        SiTTask({**NETWORK, **network}, OPTIMIZER, weight)


def test_data_of_another_size_are_refused():
    with pytest.raises(ConfigError, match="8x8 pixels and 1 channel, SiT is made for images of 16x16"):
        SiTTask({**NETWORK, "input_size": 16}, OPTIMIZER).check_data(ImageData(Digits(), 8))
