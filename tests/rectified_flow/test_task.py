"""The room's LightningModules: what they draw, what they refuse, what they learn."""

import pytest
import torch

from visionseq.data import Digits, ImageData
from visionseq.data.batch import ImageBatch, PairBatch
from visionseq.data.seeding import GlobalDraw
from visionseq.errors import ConfigError
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow import EDMVelocity, RectifiedFlowTask, ReflowTask, TeacherTask
from visionseq.training import fit

NETWORK = {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 32, "num_blocks": 1}
OPTIMIZER = OptimizerConfig(lr=1e-3)


def images(n: int = 8) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    return ImageBatch(torch.rand(n, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(n) % 3, torch.arange(n))


def pairs(n: int = 8) -> PairBatch:
    batch = images(n)
    noise = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return PairBatch(image=batch.image, noise=noise, label=batch.label, index=batch.index)


def tasks(network: dict = NETWORK) -> dict:
    return {
        "teacher": (TeacherTask(network, OPTIMIZER), images()),
        "1-rf": (RectifiedFlowTask(network, OPTIMIZER, time="logit-normal"), images()),
        "reflow": (ReflowTask(OPTIMIZER, network=network, loss="huber"), pairs()),
    }


@pytest.mark.parametrize("name", ["teacher", "1-rf", "reflow"])
def test_the_loss_depends_on_the_draw_alone(name):
    task, batch = tasks()[name]
    assert task.loss(batch, GlobalDraw(1)).item() == task.loss(batch, GlobalDraw(1)).item()
    assert task.loss(batch, GlobalDraw(1)).item() != task.loss(batch, GlobalDraw(2)).item()


@pytest.mark.parametrize("name", ["teacher", "1-rf", "reflow"])
def test_two_processes_see_the_losses_of_one(name):
    task, batch = tasks()[name]
    whole = task.loss(batch, GlobalDraw(5))
    halves = [
        task.loss(type(batch)(**{k: v[rank::2] for k, v in vars(batch).items()}), GlobalDraw(5, rank=rank, world=2))
        for rank in (0, 1)
    ]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, rtol=1e-5, atol=1e-7)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    task = TeacherTask(NETWORK, OptimizerConfig(lr=3e-3))
    batch = ImageBatch(Digits().images[:256], None, torch.arange(256))
    before = task.loss(batch, GlobalDraw(9)).item()
    fit(task, ImageData(Digits(), 64), max_steps=60, ema=None, progress=False)
    assert task.loss(batch, GlobalDraw(9)).item() < 0.8 * before


def test_a_student_starts_from_its_teachers_weights(tmp_path):
    teacher = TeacherTask(NETWORK, OPTIMIZER).model
    teacher.preprocessing = {"size": 8}
    teacher.save_pretrained(tmp_path)
    student = ReflowTask(OPTIMIZER, init=str(tmp_path), loss="l2").model
    assert isinstance(student, EDMVelocity)
    assert student.preprocessing == {"size": 8}
    assert student.training
    for name, value in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": NETWORK, "loss": "lpips-huber"}, "perceptual"),
        ({"loss": "l2"}, "network"),
        ({"init": "features-digits", "loss": "l2"}, "FeatureCNN"),
        ({"network": {**NETWORK, "type": "Unknown"}, "loss": "l2"}, "Unknown"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ReflowTask(OPTIMIZER, **options)


def test_the_perceptual_network_is_not_part_of_the_checkpoint():
    task = ReflowTask(OPTIMIZER, network=NETWORK, perceptual="features-digits")
    assert all(key.startswith("model.") for key in task.state_dict())
    loss = task.loss(pairs(), GlobalDraw(3))
    loss.backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())


def test_the_picture_is_the_same_for_equal_weights_and_has_a_column_per_step_count():
    task = ReflowTask(OPTIMIZER, network=NETWORK, loss="l2", sample_steps=[1, 2])
    first, second = task.sample_images(rows=3), task.sample_images(rows=3)
    assert first.shape == (6, 1, 8, 8)
    assert torch.equal(first, second)


def test_a_conditional_model_needs_labels():
    network = {"type": "DhariwalUNet", "img_resolution": 8, "in_channels": 1, "out_channels": 1, "label_dim": 3}
    network |= {"model_channels": 32, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []}
    task = TeacherTask(network, OPTIMIZER)
    batch = images()
    assert task.loss(batch, GlobalDraw(0)).isfinite()
    with pytest.raises(ConfigError, match="3 classes"):
        task.loss(ImageBatch(batch.image, None, batch.index), GlobalDraw(0))
