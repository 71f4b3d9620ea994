"""Which objects the recipes of LION train on and are measured by."""

from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "lion"


def arguments(path: Path, data_set: str) -> dict:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]["init_args"]
    return data[data_set]["init_args"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*nusc*.yaml")), ids=lambda path: path.stem)
def test_nuscenes_is_measured_by_what_radar_alone_saw_too(path):
    assert arguments(path, "eval_dataset")["min_points"] == 0
    assert arguments(path, "dataset").get("min_points", 1) == 1


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*waymo*.yaml")), ids=lambda path: path.stem)
def test_waymo_trains_on_what_was_hit(path):
    assert arguments(path, "dataset")["min_points"] == 1
    assert arguments(path, "eval_dataset").get("min_points", 0) == 0
