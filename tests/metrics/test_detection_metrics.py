"""Detection metrics on what can be counted by hand, and what must not change them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from visionseq.errors import ConfigError, DataError
from visionseq.metrics import Argoverse2AP, KittiAP, NuScenesNDS, OnceAP, WaymoAP
from visionseq.metrics.detection.kitti import camera_annotations
from visionseq.metrics.detection.nuscenes import ERRORS, in_class_range

NAMES = {
    "kitti": ("Car", "Pedestrian", "Cyclist"),
    "nuscenes": ("car", "pedestrian", "barrier"),
    "waymo": ("Vehicle", "Pedestrian", "Cyclist"),
    "argoverse2": ("Bus", "Dog"),
    "once": ("Car", "Bus", "Truck", "Pedestrian", "Cyclist"),
}
METRICS = {
    "kitti": KittiAP, "nuscenes": NuScenesNDS, "waymo": WaymoAP, "argoverse2": Argoverse2AP, "once": OnceAP,
}  # fmt: skip
BEST = {"kitti": "Car_3d/hard_R40", "nuscenes": "mAP", "waymo": "mAP/L2", "argoverse2": "mAP", "once": "mAP/overall"}
FULL = {"kitti": 100.0, "nuscenes": 1.0, "waymo": 1.0, "argoverse2": 1.0, "once": 100.0}


def frame_of(kind: str, boxes: np.ndarray, names: np.ndarray, scores: np.ndarray | None = None) -> dict:
    """One frame as the metric takes it; targets without scores."""
    if kind == "kitti":
        return camera_annotations(boxes, names, scores)
    extra = {} if scores is None else {"score": scores}
    if kind in ("waymo", "once"):
        waymo = {"difficulty": np.zeros(len(names)), "num_points": np.full(len(names), 9)}
        ours = {"no_label_zone": np.zeros(len(names))} if scores is not None else waymo
        return {"name": names, "box": boxes, **(ours if kind == "waymo" else {}), **extra}
    half = boxes[:, 6] / 2
    rotation = np.stack([np.cos(half), half * 0, half * 0, np.sin(half)], 1)
    found = {"name": names, "translation": boxes[:, :3], "size": boxes[:, 3:6], "rotation": rotation}
    if kind == "nuscenes":
        found |= {"velocity": np.zeros((len(names), 2)), "attribute": np.array([""] * len(names))}
    elif scores is None:
        found["num_points"] = np.full(len(names), 9)
    return {**found, **extra}


def scene(kind: str, seed: int, count: int = 45) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of every class, far apart from each other."""
    random = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(np.arange(-28, 28, 8), np.arange(-28, 28, 8)), -1).reshape(-1, 2)[:count]
    size = random.uniform([3, 1.5, 1.4], [4, 2, 1.8], (count, 3))
    turn = random.uniform(-3, 3, (count, 1))
    boxes = np.concatenate([place, np.zeros((count, 1)), size, turn], 1)
    return boxes, np.array(NAMES[kind])[np.arange(count) % len(NAMES[kind])]


def score_of(kind: str, frames: list, noise: float = 0.0, extra: int = 0) -> float:
    metric = METRICS[kind](NAMES[kind])
    random = np.random.default_rng(1)
    for boxes, names in frames:
        moved = boxes.copy()
        moved[:, :3] += random.normal(0, noise, (len(boxes), 3)) if noise else 0
        found, called = np.concatenate([moved, boxes[:extra] + 3.5]), np.concatenate([names, names[:extra]])
        scores = np.concatenate([random.uniform(0.4, 0.9, len(boxes)), np.full(extra, 0.95)])
        metric.update([frame_of(kind, found, called, scores)], [frame_of(kind, boxes, names)])
    return float(metric.compute()[BEST[kind]])


def pairs_of(kind: str, count: int) -> list[tuple[dict, dict]]:
    """Predictions and targets of frames; no two scores are equal."""
    random, pairs = np.random.default_rng(0), []
    for boxes, names in [scene(kind, seed, 20) for seed in range(count)]:
        moved = boxes + random.normal(0, 0.2, boxes.shape) * [1, 1, 0, 0, 0, 0, 0]
        scores = random.permutation(len(boxes)) / len(boxes) + random.uniform(0, 1e-3, len(boxes))
        pairs.append((frame_of(kind, moved, names, np.minimum(scores, 1)), frame_of(kind, boxes, names)))
    return pairs


@pytest.mark.parametrize("kind", METRICS)
def test_the_truth_is_perfect_and_noise_costs_ever_more(kind):
    frames = [scene(kind, seed) for seed in range(4)]
    found = [score_of(kind, frames, noise) for noise in (0.0, 0.1, 0.25, 0.6)]
    assert found[0] == pytest.approx(FULL[kind], abs=0.02 * FULL[kind] if kind == "nuscenes" else 1e-6)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("kind", METRICS)
def test_false_detections_cost_something(kind):
    frames = [scene(kind, seed) for seed in range(4)]
    assert score_of(kind, frames, extra=10) < score_of(kind, frames)


@pytest.mark.parametrize("kind", METRICS)
def test_frames_in_any_order_and_in_any_number_of_updates(kind):
    pairs = pairs_of(kind, 5)
    once, twice = METRICS[kind](NAMES[kind]), METRICS[kind](NAMES[kind])
    once.update([p for p, _ in pairs], [t for _, t in pairs])
    for prediction, target in reversed(pairs):
        twice.update([prediction], [target])
    for name, value in once.compute().items():
        torch.testing.assert_close(twice.compute()[name], value, equal_nan=True)
    once.reset()
    assert float(once.compute()[BEST[kind]]) == 0


@pytest.mark.parametrize(
    ("backend", "count"), [("gloo", 3), pytest.param("gloo", 1, marks=pytest.mark.slow), ("cuda:gloo", 3)]
)
def test_two_processes_equal_one(backend, count, tmp_path):
    script = Path(__file__).with_name("detection_process.py")
    arguments, options = [str(tmp_path / "meeting"), backend, str(count)], {"stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(script.parent)}  # it imports this file
    processes = [
        subprocess.Popen([sys.executable, str(script), str(rank), *arguments], env=environment, **options)
        for rank in (0, 1)
    ]
    try:
        found = [json.loads(process.communicate(timeout=240)[0] or "{}") for process in processes]
    finally:
        for process in processes:
            process.kill()
    for kind, metric in METRICS.items():
        one = metric(NAMES[kind])
        one.update(*zip(*pairs_of(kind, count), strict=True))
        expected = {name: value.item() for name, value in one.compute().items()}
        assert expected[BEST[kind]] > 0
        for rank, own in enumerate((count + 1) // 2 - np.array([0, count % 2])):
            assert found[rank][kind]["frames"] == [own, count, own] * 2
            for figures in found[rank][kind]["figures"]:
                assert figures == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("kind", METRICS)
def test_nothing_found_and_nothing_to_find(kind):
    boxes, names = scene(kind, 0, 9)
    nothing, no_names = np.zeros((0, 7)), np.zeros(0, "U1")
    metric = METRICS[kind](NAMES[kind])
    metric.update([frame_of(kind, nothing, no_names, np.zeros(0))], [frame_of(kind, boxes, names)])
    assert float(metric.compute()[BEST[kind]]) == 0
    metric.update([frame_of(kind, boxes, names, np.ones(9))], [frame_of(kind, nothing, no_names)])
    assert float(metric.compute()[BEST[kind]]) == 0


@pytest.mark.parametrize("kind", METRICS)
def test_arrays_that_do_not_fit_are_named(kind):
    boxes, names = scene(kind, 0, 9)
    good = frame_of(kind, boxes, names)
    with pytest.raises(DataError, match="predictions, frame 0: no 'score'"):
        METRICS[kind](NAMES[kind]).update([good], [good])
    bad = frame_of(kind, boxes, names, np.ones(5))
    with pytest.raises(DataError, match=r"predictions, frame 0: score \[5, 1\], expected \[9, 1\]"):
        METRICS[kind](NAMES[kind]).update([bad], [good])
    with pytest.raises(DataError, match="1 frames of predictions, 2 of targets"):
        METRICS[kind](NAMES[kind]).update([bad], [good, good])


@pytest.mark.parametrize(
    ("metric", "known", "unknown"),
    [(OnceAP, "Car", "Tram"), (NuScenesNDS, "car", "tram"), (WaymoAP, "Vehicle", "Truck")],
)
def test_classes_that_a_metric_has_no_rules_for(metric, known, unknown):
    with pytest.raises(ConfigError, match=f"{metric.__name__}: no class '{unknown}', expected some of .*{known}"):
        metric([known, unknown])


def test_the_figures_of_kitti_are_known_before_they_are_computed():
    nothing, no_names = np.zeros((0, 7)), np.zeros(0, "U1")
    boxes, names = scene("kitti", 0, 9)
    for found in ((nothing, no_names, np.zeros(0)), (boxes, names, np.ones(9))):
        metric = KittiAP(["Car", "Van"])
        metric.update([camera_annotations(*found)], [camera_annotations(boxes, names)])
        assert sorted(metric.compute()) == sorted(metric.figure_names())


@pytest.mark.parametrize(
    ("count", "r11", "r40"),
    [
        (1, 100 / 11, 0),
        (2, 100 / 11, 2.5),
        (4, 100 / 11, 7.5),
        (5, 200 / 11, 10),
        (10, 300 / 11, 22.5),
        (20, 500 / 11, 47.5),
        (41, 100, 100),
    ],
)
def test_what_few_perfect_detections_are_worth_at_kitti(count, r11, r40):
    boxes = np.zeros((count, 7))
    boxes[:, 0], boxes[:, 3:6] = np.arange(count) * 10, (4, 2, 1.5)
    names = np.array(["car"] * count)  # in whatever case
    metric = KittiAP(["Car"])
    metric.update([camera_annotations(boxes, names, 1 + np.arange(count))], [camera_annotations(boxes, names)])
    figures = metric.compute()
    assert float(figures["Car_3d/easy_R11"]) == pytest.approx(r11, abs=1e-3)
    assert float(figures["Car_3d/easy_R40"]) == pytest.approx(r40)
    assert "Car_3d/easy_R40" in metric.table()


def test_kitti_ignores_what_is_hidden_and_regions_of_no_interest():
    boxes = np.zeros((60, 7))
    boxes[:, 0], boxes[:, 3:6] = np.arange(60) * 10, (4, 2, 1.5)
    names = np.array(["Car"] * 60, dtype="U10")
    target, found = camera_annotations(boxes, names), camera_annotations(boxes, names, np.linspace(0.1, 1, 60))
    target["occluded"][:3] = 2
    target["name"][3] = "Van"
    metric = KittiAP(["Car"])
    metric.update([found], [target])
    assert float(metric.compute()["Car_3d/easy_R40"]) == pytest.approx(100)
    target["name"][4], found["bbox"][4], found["score"][4] = "DontCare", (500, 500, 600, 600), 2.0
    aps = []
    for region in ((480, 480, 620, 620), (900, 900, 950, 950)):
        target["bbox"][4] = region
        metric = KittiAP(["Car"])
        metric.update([found], [target])
        aps.append({name: float(value) for name, value in metric.compute().items()})
    inside, elsewhere = aps
    assert inside["Car_image/easy_R40"] > elsewhere["Car_image/easy_R40"]
    assert inside["Car_3d/easy_R40"] == elsewhere["Car_3d/easy_R40"]  # such a region is one of the image alone


def test_the_formula_of_nds():
    metric = NuScenesNDS(["car"])
    boxes, names = scene("nuscenes", 0, 30)
    names[:] = "car"
    target, found = frame_of("nuscenes", boxes, names), frame_of("nuscenes", boxes, names, np.linspace(0.1, 1, 30))
    found["translation"] = found["translation"] + [0.3, 0, 0]
    found["velocity"] = found["velocity"] + [0.4, 0]
    target["attribute"][:], found["attribute"][:] = "vehicle.parked", "vehicle.moving"
    metric.update([found], [target])
    figures = {name: float(value) for name, value in metric.compute().items()}
    assert figures["mATE"] == pytest.approx(0.3)
    assert figures["mAVE"] == pytest.approx(0.4)
    assert figures["mAAE"] == 1
    errors = sum(max(0, 1 - figures[name]) for name in ("mATE", "mASE", "mAOE", "mAVE", "mAAE"))
    assert figures["NDS"] == pytest.approx((5 * figures["mAP"] + errors) / 10)
    assert len(ERRORS) == 5


def test_nuscenes_leaves_out_what_is_far_and_bicycles_in_racks():
    frame = {
        "name": np.array(["car", "car", "bicycle"]),
        "translation": np.array([[49.0, 0, 0], [51, 0, 0], [5, 0, 0]]),
    }
    assert in_class_range(frame, (0, 0))["name"].tolist() == ["car", "bicycle"]
    rack = np.array([[5.0, 0, 0, 4, 4, 2, 0]])
    assert in_class_range(frame, (0, 0), rack)["name"].tolist() == ["car"]


def test_waymo_heading_accuracy():
    boxes = np.zeros((1, 7))
    boxes[:, 3:6] = (4, 4, 2)
    turned = boxes + np.array([0, 0, 0, 0, 0, 0, np.pi / 2])
    metric = WaymoAP(["Vehicle"])
    names = np.array(["Vehicle"])
    metric.update([frame_of("waymo", turned, names, np.ones(1))], [frame_of("waymo", boxes, names)])
    figures = metric.compute()
    assert float(figures["Vehicle/L1/AP"]) == pytest.approx(1)
    assert float(figures["Vehicle/L1/APH"]) == pytest.approx(0.5)


def test_once_wants_the_right_way_round():
    boxes, names = scene("once", 0, 45)
    wrong = boxes + np.array([0, 0, 0, 0, 0, 0, np.pi])
    metric = OnceAP(NAMES["once"])
    metric.update([frame_of("once", wrong, names, np.linspace(0.1, 1, 45))], [frame_of("once", boxes, names)])
    assert float(metric.compute()["mAP/overall"]) == 0
