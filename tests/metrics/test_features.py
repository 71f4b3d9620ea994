"""The feature classifier: shapes, input formats, saving, and that it learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning import Trainer

import visionseq
from visionseq.cli import main
from visionseq.data import Digits, ImageData
from visionseq.data.images import MemoryImages
from visionseq.errors import ConfigError
from visionseq.metrics import FeatureCNN, FeatureTask
from visionseq.optim.factory import OptimizerConfig
from visionseq.places import shipped_folder
from visionseq.training import fit


@pytest.mark.parametrize(
    ("resolution", "widths", "sides", "inputs"),
    [(8, (16, 32), [8, 4], 32 * 4**2), (28, (32, 64), [28, 14], 64 * 7**2), (32, (8, 16, 32), [32, 16, 8], 32 * 8**2)],
)
def test_shapes(resolution, widths, sides, inputs):
    model = FeatureCNN(resolution, 3, widths, hidden=20, num_classes=7).eval()
    x = torch.rand(5, 3, resolution, resolution) * 2 - 1
    maps = model.feature_maps(x)
    assert [tuple(m.shape) for m in maps] == [(5, c, s, s) for c, s in zip(widths, sides, strict=True)]
    assert all((m >= 0).all() for m in maps)
    assert model.hidden.in_features == inputs
    assert model.features(x).shape == (5, model.num_features) == (5, 20)
    torch.testing.assert_close(model(x), model.classifier(model.features(x)))


def test_default_is_the_digits_network():
    model = FeatureCNN()
    assert sum(p.numel() for p in model.parameters()) == (9 * 16 + 16) + (9 * 16 * 32 + 32) + (512 * 64 + 64) + 650


def test_8_bit_images_are_scaled():
    model = FeatureCNN().eval()
    pixels = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(model.features(pixels), model.features(pixels.float() / 127.5 - 1))


def test_images_of_another_size_are_refused():
    with pytest.raises(ConfigError, match=r"\[B, 1, 8, 8\]"):
        FeatureCNN()(torch.zeros(2, 1, 9, 9))
    with pytest.raises(ConfigError, match="images of 1x1 are too small"):
        FeatureCNN(1)


def test_saved_and_loaded(tmp_path):
    model = FeatureCNN(28, 1, (4, 8), 12, 10).eval()
    model.save_pretrained(tmp_path)
    loaded, x = visionseq.load(tmp_path), torch.rand(3, 1, 28, 28)
    assert isinstance(loaded, FeatureCNN)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded.features(x), model.features(x), rtol=0, atol=0)


def test_task_learns_the_digits(tmp_path):
    torch.manual_seed(0)
    task = FeatureTask(OptimizerConfig(lr=3e-3, schedule="cosine"), label_smoothing=0.1)
    data = ImageData(Digits("train"), batch_size=64, eval_dataset=Digits("test"))
    trainer = Trainer(
        max_steps=200, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(task, data)
    (result,) = trainer.test(task, data, verbose=False)
    assert result["test/accuracy"] > 0.93
    assert set(result) == {"test/accuracy", "test/loss"}
    probabilities = trainer.predict(task, data)[0]
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(probabilities)))


def two_classes(names: list[str]) -> ImageData:
    labels = torch.tensor([0, 1, 0, 1])
    return ImageData(MemoryImages(torch.zeros(4, 1, 8, 8), labels, names), batch_size=4)


def test_a_run_is_not_resumed_on_other_classes(tmp_path):
    options = {"run_dir": tmp_path, "progress": False}
    fit(FeatureTask(OptimizerConfig(lr=1e-3), num_classes=2), two_classes(["cat", "dog"]), max_steps=1, **options)
    task = FeatureTask(OptimizerConfig(lr=1e-3), num_classes=2)
    with pytest.raises(ConfigError, match="classes dog, cat, those of the checkpoint are cat, dog"):
        fit(task, two_classes(["dog", "cat"]), max_steps=2, ckpt_path="last", **options)


@pytest.mark.slow
def test_processes_with_unequal_numbers_of_batches_measure_like_one(tmp_path):
    script = Path(__file__).with_name("feature_process.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, str(script), str(tmp_path / "two"), "2", "5"], check=True, env=environment)
    subprocess.run([sys.executable, str(script), str(tmp_path / "one"), "1", "5"], check=True, env=environment)
    two, one = (json.loads((tmp_path / name).read_text()) for name in ("two", "one"))
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_configs_train_a_network_that_scores(name, tmp_path):
    path = shipped_folder("configs") / "features" / f"{name}.yaml"
    if name == "fashion":
        _skip_without_fashion()
    assert len(path.read_text().splitlines()) <= 60
    arguments = ["--config", str(path), "--run_dir", str(tmp_path), "--trainer.max_steps", "2"]
    assert main(["fit", *arguments]) == 0
    network = visionseq.load(tmp_path)
    assert isinstance(network, FeatureCNN)
    channels, size = network.preprocessing["channels"], network.preprocessing["size"]
    assert network.features(torch.zeros(2, channels, size, size)).shape == (2, network.num_features)


def _skip_without_fashion() -> None:
    from visionseq.data import FashionMNIST
    from visionseq.errors import DataError

    try:
        FashionMNIST("test")
    except DataError:
        pytest.skip("Fashion-MNIST is not here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 3}, "8x8 pixels and 1 channel, FeatureCNN is made for images of 8x8 pixels and 3 channels"),
        ({"img_resolution": 16}, "FeatureCNN is made for images of 16x16 pixels"),
        ({"num_classes": 3}, "FeatureCNN has 3 classes"),
    ],
)
def test_images_of_another_network_are_refused_before_the_first_step(options, message):
    task = FeatureTask(OptimizerConfig(lr=1e-3), **options)
    with pytest.raises(ConfigError, match=message):
        task.check_data(ImageData(Digits("train"), batch_size=64))


def test_classes_of_another_order_are_refused():
    task, digits = FeatureTask(OptimizerConfig(lr=1e-3)), Digits("train")
    task.model.preprocessing = {"class_names": digits.class_names[::-1]}
    with pytest.raises(ConfigError, match="those of the model are"):
        task.check_data(ImageData(digits, batch_size=64))
