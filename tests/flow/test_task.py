"""The base of generative tasks: losses whatever the cut of the data, the metric, data that do not match the model."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visionseq.data import Digits, ImageData, ImageFolder
from visionseq.data.images import MemoryImages
from visionseq.data.sampler import SequentialSampler
from visionseq.errors import ConfigError
from visionseq.flow import SampleFrechet
from visionseq.flow.task import VALIDATION_SEED, RowDraw
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow import RectifiedFlowTask, ReflowTask, TeacherTask
from visionseq.training import fit
from visionseq.training.metrics_file import read_metrics

NETWORK = {"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 16, "num_blocks": 1}
OPTIMIZER = OptimizerConfig(lr=1e-3)


def images(n: int = 12, classes: int = 0, names: list[str] | None = None, channels: int = 1, size: int = 8):
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % classes if classes else None
    return MemoryImages(pixels.to(torch.uint8), labels, names)


def task(label_dim: int = 0, **options) -> TeacherTask:
    torch.manual_seed(0)
    return TeacherTask({**NETWORK, "label_dim": label_dim}, OPTIMIZER, **options)


def validated(eval_batch_size: int, world: int) -> float:
    """Mean loss over the 359 test digits, cut as a run of `world` processes cuts them."""
    tested, data = task(10), Digits("test")
    total = rows = 0.0
    with torch.no_grad():
        for rank in range(world):
            for keys in SequentialSampler(np.arange(len(data)), eval_batch_size, rank, world):
                batch = data.batch(keys[:, 1])
                total += tested.loss(batch, RowDraw(VALIDATION_SEED, batch.index)).item() * len(batch)
                rows += len(batch)
    assert rows == 359
    return total / rows


@pytest.mark.parametrize(("eval_batch_size", "world"), [(100, 1), (100, 2), (96, 3), (2, 2)])
def test_the_validation_loss_depends_on_no_cut_of_the_data(eval_batch_size, world):
    assert validated(eval_batch_size, world) == pytest.approx(validated(359, 1), rel=2e-6)


def run(folder: Path, steps: int, ckpt_path: str | None = None, overwrite: bool = False, **options) -> list[dict]:
    metric = SampleFrechet("features-digits", every_n_steps=3, num_samples=30, steps=[1, 2], batch_size=20)
    torch.manual_seed(0)
    fit(
        RectifiedFlowTask({**NETWORK, "label_dim": 10}, OPTIMIZER, metric=metric),
        ImageData(Digits("train"), 32, eval_dataset=Digits("test"), eval_batch_size=100),
        max_steps=steps,
        run_dir=folder,
        ckpt_path=ckpt_path,
        ema=0.9,
        checkpoint_every=2,
        log_every=1,
        picture_every=1000,
        progress=False,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        **options,
    )
    return read_metrics(folder / "metrics.csv")


def test_the_metric_is_measured_after_every_nth_update_and_survives_a_restart(tmp_path):
    rows = run(tmp_path / "whole", 9)
    measured = [int(row["step"]) for row in rows if "val/frechet_1_steps" in row and "val/loss" in row]
    assert measured == [4, 6]  # the validations that follow updates 3 and 6; update 9 has no validation
    run(tmp_path / "parts", 5)
    assert run(tmp_path / "parts", 9, ckpt_path="last") == rows


@pytest.mark.slow
def test_two_processes_validate_and_measure_like_one(tmp_path):
    script = "import sys; from pathlib import Path; import torch; torch.set_num_threads(1); from test_task import run; "
    script += "run(Path(sys.argv[1]), 4, devices=2, strategy='ddp')"
    (tmp_path / "two.py").write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{script}\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*launcher, str(tmp_path / "two.py"), str(tmp_path / "two")], check=True)
    for row, expected in zip(read_metrics(tmp_path / "two/metrics.csv"), run(tmp_path / "one", 4), strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(float(value), rel=2e-5), name


def test_the_metric_compares_drawn_with_real_images():
    data = ImageData(Digits("train"), 32, eval_dataset=Digits("test"))
    near = SampleFrechet("features-digits", num_samples=200, batch_size=64)
    trained = fit(task(metric=near), data, max_steps=1, ema=None, progress=False)
    owner = task(metric=near)
    owner.model = trained
    owner.trainer = type("Trainer", (), {"world_size": 1, "global_rank": 0, "global_step": 0})()
    near.add_real(Digits("test").images)
    drawn = near.measure(owner)["frechet"]
    trained.sample = lambda noise, class_labels: Digits("train").images[: len(noise)]
    near.add_real(Digits("test").images)
    assert near.measure(owner)["frechet"] < drawn / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "rf-digits-edm"}, "EDMDenoiser has no feature layer"),
        ({"features": "features-digits", "num_samples": 1}, "num_samples 1"),
        ({"features": "features-digits", "every_n_steps": 0}, "every_n_steps 0"),
    ],
)
def test_a_metric_that_cannot_measure_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SampleFrechet(**options)


def test_a_metric_needs_evaluation_data_and_a_network_for_the_images():
    with pytest.raises(ConfigError, match="without evaluation data"):
        fit(task(metric=SampleFrechet("features-digits")), ImageData(Digits(), 8), max_steps=1, progress=False)
    data = ImageData(Digits(), 8, eval_dataset=Digits("test"))
    with pytest.raises(ConfigError, match=r"FeatureCNN: images \(2, 1, 8, 8\)"):
        fit(task(metric=SampleFrechet("features-fashion")), data, max_steps=1, progress=False)


@pytest.mark.parametrize(
    ("label_dim", "dataset", "message"),
    [
        (
            0,
            images(channels=3),
            "8x8 pixels and 3 channels, EDMDenoiser is made for images of 8x8 pixels and 1 channel",
        ),
        (0, images(size=16), "16x16 pixels and 1 channel"),
        (2, images(classes=3, names=["a", "b", "c"]), r"3 classes \(a, b, c\), EDMDenoiser has 2"),
        (5, images(classes=3, names=["a", "b", "c"]), r"3 classes \(a, b, c\), EDMDenoiser has 5"),
        (2, images(classes=3), "labels up to 2, EDMDenoiser has 2"),
        (3, images(), "no labels, EDMDenoiser has 3"),
    ],
)
def test_data_that_do_not_match_the_model_are_refused_before_the_first_step(label_dim, dataset, message):
    started = task(label_dim)
    with pytest.raises(ConfigError, match=f"training data: .*{message}"):
        fit(started, ImageData(dataset, 4), max_steps=1, progress=False)
    if label_dim == 0:  # of the evaluation data as well
        data = ImageData(images(), 4, eval_dataset=dataset)
        with pytest.raises(ConfigError, match=f"evaluation data: .*{message}"):
            fit(started, data, max_steps=1, progress=False)


def test_a_student_keeps_the_classes_of_its_teacher(tmp_path):
    teacher = fit(task(2), ImageData(images(classes=2, names=["cat", "dog"]), 4), max_steps=1, progress=False)
    assert teacher.preprocessing["class_names"] == ["cat", "dog"]
    teacher.save_pretrained(tmp_path)
    student = ReflowTask(OPTIMIZER, init=str(tmp_path), loss="l2")
    with pytest.raises(ConfigError, match="classes dog, cat, those of the model are cat, dog"):
        fit(student, ImageData(images(classes=2, names=["dog", "cat"]), 4), max_steps=1, progress=False)


def test_a_run_is_not_resumed_on_other_classes(tmp_path):
    fit(task(2), ImageData(images(classes=2, names=["cat", "dog"]), 4), max_steps=1, run_dir=tmp_path, progress=False)
    with pytest.raises(ConfigError, match="classes cat, eel, those of the checkpoint are cat, dog"):
        fit(
            task(2),
            ImageData(images(classes=2, names=["cat", "eel"]), 4),
            max_steps=2,
            run_dir=tmp_path,
            ckpt_path="last",
            progress=False,
        )


def folder(root: Path, classes: list[str]) -> ImageFolder:
    for name in classes:
        (root / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 50, np.uint8)).save(root / name / "0.png")
    return ImageFolder(root, size=8, channels=1)


def test_a_missing_class_shifts_no_numbers(tmp_path):
    train = folder(tmp_path / "train", ["ant", "bee", "cat"])
    data = ImageData(train, 1, eval_dataset=folder(tmp_path / "eval", ["ant", "cat"]))
    assert data.eval_dataset.class_names == ["ant", "bee", "cat"]
    assert data.eval_source().fetch(np.array([[0, 0], [0, 1]])).label.tolist() == [0, 2]
    with pytest.raises(ConfigError, match="classes dog, which the training data lacks; it has ant, bee, cat"):
        ImageData(train, 1, eval_dataset=folder(tmp_path / "other", ["ant", "dog"]))
