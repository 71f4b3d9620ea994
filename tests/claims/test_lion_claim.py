"""LION's claim at a size for tests: what is drawn, that models learn, what the verdicts say."""

import json

import pytest
import torch

from visionseq.claims.lion.clustering import cluster_boxes
from visionseq.claims.lion.experiments import Recipe, _beacons, _crowds, beacon_accuracy, counting_r2, interiors
from visionseq.claims.lion.report import average, verdicts, write_report
from visionseq.data.lidar_world import LidarWorld
from visionseq.data.lidar_world.scene import SIZES
from visionseq.geometry import bev_iou

SHORT = Recipe(steps=30, held_out=4, scenes=6)
NOISE = {str(noise): {"Car": 100.0 - 50 * noise} for noise in (0.0, 0.1, 0.2, 0.4)}
FIGURES = {
    "beacon": {"8": 0.3, "256": 1.0},
    "counting": {"descriptor": 0.99, "identity": 0.1},
    "interiors": {"with": {"Car": 1.0, "cells": 300.0}, "without": {"Car": 0.3, "cells": 100.0}},
}


def test_scenes_are_what_they_say():
    x, classes = _beacons(3, 0, 0)
    lit = x.features.abs().sum(1) > 0
    assert lit.sum() == 3
    assert torch.equal(x.features[lit].argmax(1), classes[lit])
    x, wanted = _crowds(2, 0, 0)
    place = x.indices[7]
    near = (x.indices[:, 0] == place[0]) & ((x.indices[:, 1:] - place[1:]).abs() <= 1).all(1)
    assert wanted[7] == near.sum() - 1


def test_models_learn_and_a_seed_repeats():
    first = counting_r2(True, SHORT, 0)
    assert first > counting_r2(True, Recipe(steps=2), 0)
    assert counting_r2(True, SHORT, 0) == first
    assert 0 <= beacon_accuracy(256, SHORT, 0) <= 1


def test_generation_fills_what_is_hollow():
    hollow, filled = interiors(False, SHORT, 0), interiors(True, SHORT, 0)
    assert filled["Car"] > hollow["Car"]
    assert filled["cells"] > hollow["cells"]


def test_verdicts_and_the_page(tmp_path):
    found, page = write_report(tmp_path, {0: FIGURES, 1: FIGURES}, NOISE, {"steps": 1}, {"cores": 2})
    assert all(found.values())
    assert page.read_text().count("**holds**") == len(found)
    assert json.loads((tmp_path / "lion.json").read_text())["mean"]["counting"]["identity"] == pytest.approx(0.1)
    worse = {**average([FIGURES]), "noise": NOISE, "counting": {"descriptor": 0.5, "identity": 0.5}}
    assert sum(verdicts(worse).values()) == len(found) - 2


def test_the_baseline_finds_people():
    world = LidarWorld(4, seed=3)
    found = total = 0
    for index in range(len(world)):
        frame = world.frame(index)
        boxes, labels, scores = cluster_boxes(frame.points, SIZES, 60.0)
        assert len(boxes) == len(labels) == len(scores)
        people = frame.boxes[frame.names == "Pedestrian"]
        iou = bev_iou(torch.from_numpy(people), torch.from_numpy(boxes[labels == 2]))
        found, total = found + int((iou.max(1).values > 0.25).sum()), total + len(people)
    assert found > 0.8 * total
    assert len(cluster_boxes(frame.points[:0], SIZES, 60.0)[0]) == 0
