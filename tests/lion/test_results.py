"""Detections as KITTI's lines: which boxes have a place in the image."""

import numpy as np
import pytest
import torch

from visionseq.data.lidar.kitti_writer import CAMERA
from visionseq.lion import Detections
from visionseq.lion.results import write_kitti

PLACES = {"ahead": (10, 0), "at the edge": (10, 9), "far to the left": (10, 30), "around": (1, 0), "behind": (-10, 0)}


def image_boxes_of(folder, image_shape=None) -> dict[str, list[float]]:
    boxes = torch.tensor([[x, y, 0, 4, 2, 1.5, 0.1] for x, y in PLACES.values()])
    found = Detections(boxes, torch.full((len(boxes),), 0.5), torch.ones(len(boxes), dtype=torch.int64))
    write_kitti(folder / "a.txt", found, ["Car"], CAMERA, image_shape)
    lines = [line.split() for line in (folder / "a.txt").read_text().splitlines()]
    return {place: [float(value) for value in line[4:8]] for place, line in zip(PLACES, lines, strict=True)}


@pytest.mark.parametrize("image_shape", [None, (375, 1242)])
def test_boxes_that_reach_behind_the_camera_have_no_image_box(tmp_path, image_shape):
    images = image_boxes_of(tmp_path, image_shape)
    assert images["around"] == images["behind"] == [-1, -1, -1, -1]
    left, top, right, bottom = images["ahead"]
    assert 400 < left < right < 800
    assert 50 < top < bottom < 300


def test_image_boxes_end_at_the_border_where_the_size_is_known(tmp_path):
    free, cut = image_boxes_of(tmp_path), image_boxes_of(tmp_path, (375, 1242))
    assert free["ahead"] == cut["ahead"]
    assert free["at the edge"][0] < 0 < free["at the edge"][2]
    np.testing.assert_array_equal(cut["at the edge"], [0, *free["at the edge"][1:]])
    assert free["far to the left"][2] < 0
    assert cut["far to the left"] == [-1, -1, -1, -1]
