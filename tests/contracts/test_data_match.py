"""Every task compares data with its model in one place, `check_data(data)`, before anything is trained or replaced."""

import importlib
import inspect
from pathlib import Path

import pytest
import torch
from lightning import LightningModule
from room_furniture import training_configs

from visionseq import rooms
from visionseq.cli import main
from visionseq.data import ImageData, PointCloudData
from visionseq.data.images import MemoryImages
from visionseq.data.lidar import PointPreparation
from visionseq.data.lidar_world import LidarWorld
from visionseq.errors import ConfigError
from visionseq.training.cli import VisionseqCLI

ROOT = Path(__file__).resolve().parents[2]
PREPARATION = PointPreparation(["x", "y", "z"], [0, 0, 0, 1, 1, 1], ["Pedestrian"])
MISMATCHES = {
    "images": ImageData(MemoryImages(torch.zeros(4, 3, 5, 5, dtype=torch.uint8)), 2),
    "points": PointCloudData(LidarWorld(2), PREPARATION, 2),
}
CONFIGS = [path for room in rooms.room_names() for path in training_configs(ROOT, room)[:1]]
CONFIGS.append("configs/features/digits.yaml")


class TaskOnly(VisionseqCLI):
    """The task and the data of a configuration, and nothing after them."""

    def fit(self, model, datamodule, **_):
        raise Built(model, datamodule)


class Built(Exception):
    pass


def built(config: str, folder: Path) -> tuple[LightningModule, object]:
    """The task of a configuration, and its data."""
    with pytest.raises(Built) as error:
        TaskOnly("fit", ["--config", str(ROOT / config), "--run_dir", str(folder), "--trainer.accelerator", "cpu"])
    return error.value.args


def tasks_of(module: str) -> list[type]:
    classes = inspect.getmembers(importlib.import_module(module), inspect.isclass)
    return [cls for _, cls in classes if issubclass(cls, LightningModule) and cls is not LightningModule]


@pytest.mark.parametrize("area", [*rooms.room_names(), "metrics", "flow"])
def test_every_task_has_the_hook(area):
    tasks = tasks_of(f"visionseq.{area}.task")
    assert tasks
    for task in tasks:
        assert list(inspect.signature(task.check_data).parameters) == ["self", "data"], task


@pytest.mark.parametrize("config", CONFIGS)
def test_a_task_takes_its_own_data_and_refuses_others(config, tmp_path):
    task, data = built(config, tmp_path / "run")
    task.check_data(data)
    for mismatch in MISMATCHES.values():
        with pytest.raises(ConfigError, match=type(task.model).__name__ + "|detector"):
            task.check_data(mismatch)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_mismatch_is_found_before_an_earlier_run_is_replaced(config, tmp_path, monkeypatch, capsys):
    task = type(built(config, tmp_path / "other")[0])
    words = ["--config", str(ROOT / config), "--run_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    (tmp_path / "checkpoints").mkdir()
    kept = tmp_path / "metrics.csv"
    kept.write_text("step\n1\n")

    def refuse(self, data):
        raise ConfigError("the data and the model differ")

    monkeypatch.setattr(task, "check_data", refuse)
    assert main(["fit", *words, "--overwrite"]) == 1
    assert "the data and the model differ" in capsys.readouterr().err
    assert kept.read_text() == "step\n1\n"
