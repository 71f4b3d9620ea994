"""Heads: a perfect prediction gives the boxes back, and losses that scenes without objects do not break."""

import pytest
import torch
from head_cases import BOXES, KINDS, RANGE, VOXEL, boxes_for, features_for, heads
from tiny_detector import NAMES

from visionseq.lion.heads import CenterHead, SparseCenterHead
from visionseq.lion.heads.center_targets import center_targets
from visionseq.nn.sparse import SparseTensor


@pytest.mark.parametrize("name", KINDS)
def test_scenes_without_objects_have_finite_losses(name):
    torch.manual_seed(0)
    head, features = heads()[name], features_for(name)
    for rows in ((torch.zeros(0, 8),) * 2, (torch.zeros(3, 8),) * 2, (BOXES, torch.zeros(3, 8))):
        losses = head.losses(head(features), boxes_for(name, *rows))
        assert all(value.isfinite() for value in losses.values())
        losses["loss"].backward()
    assert len(head.eval().detections(head(features))) == 2


@pytest.mark.parametrize("name", KINDS)
def test_the_order_of_the_boxes_does_not_matter(name):
    torch.manual_seed(0)
    head, features = heads()[name], features_for(name)
    predictions = head.eval()(features)
    first = head.losses(predictions, boxes_for(name, BOXES, BOXES))["loss"]
    second = head.losses(predictions, boxes_for(name, BOXES[[2, 0, 1]], BOXES))["loss"]
    torch.testing.assert_close(first, second)


def same_boxes(found, expected: torch.Tensor) -> None:
    order = found.labels.argsort()
    torch.testing.assert_close(found.boxes[order][:, :6], expected[:, :6], atol=1e-4, rtol=1e-4)
    turn = found.boxes[order][:, 6] - expected[:, 6]
    torch.testing.assert_close(turn.cos(), torch.ones(len(turn)), atol=1e-4, rtol=0)
    assert found.labels[order].tolist() == expected[:, 7].tolist()


def test_a_center_head_gives_perfect_predictions_back():
    head = CenterHead(6, NAMES, RANGE, VOXEL, shared_conv_channel=8)
    targets = center_targets(BOXES[None], head.groups[0], head.grid, 32, 32)
    maps = {"hm": torch.logit(targets.heatmaps.clamp(1e-4, 1 - 1e-4)) * (targets.heatmaps == 1) - 20 * (
        targets.heatmaps < 1).float()}  # fmt: skip
    place = 0
    for name, width in (("center", 2), ("center_z", 1), ("dim", 3), ("rot", 2)):
        values = torch.zeros(1, width, 32 * 32)
        cells = targets.cells[0, :3]
        values[0][:, cells] = targets.boxes[0, :3, place : place + width].T
        maps[name], place = values.view(1, width, 32, 32), place + width
    same_boxes(head.detections([maps])[0], BOXES)


def test_a_sparse_head_gives_perfect_predictions_back():
    head = SparseCenterHead(6, NAMES, RANGE, VOXEL)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    indices = torch.stack([torch.zeros(1024, dtype=torch.int64), rows.flatten(), columns.flatten()], 1)
    cells = SparseTensor(torch.zeros(1024, 6), indices, (32, 32), 1)
    targets = head.targets(BOXES[None], head.groups[0], cells)
    values = {"heatmap": torch.where(targets.heatmaps == 1, 9.0, -20.0)}
    place = 0
    for name, width in (("center", 2), ("center_z", 1), ("dim", 3), ("rot", 2)):
        values[name] = torch.zeros(1024, width)
        values[name][targets.cells[0, :3]] = targets.boxes[0, :3, place : place + width]
        place += width
    same_boxes(head.detections((cells, [values]))[0], BOXES)


def test_more_objects_than_slots_and_more_candidates_than_cells(caplog):
    head = CenterHead(6, NAMES, RANGE, VOXEL, shared_conv_channel=8, num_max_objs=2, max_obj_per_sample=100_000)
    features = torch.randn(1, 6, 32, 32)
    for _ in range(3):
        targets = head.targets(BOXES[[0, 0, 0]][None].repeat(2, 1, 1), head.groups[0], 32, 32)
    assert targets.mask.tolist() == [[True, True]] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "3 objects of a group in one sample: the last 1 are not learned (said once)"
    ]
    assert len(head.eval().detections(head(features))) == 1


def test_boxes_beyond_the_map_and_flat_ones():
    boxes = BOXES.clone()
    boxes[0, :2], boxes[1, 3] = torch.tensor([100.0, -100.0]), 0.0
    head = heads()["center"]
    targets = head.targets(boxes[None], head.groups[0], 32, 32)
    assert targets.mask[0, :3].tolist() == [True, False, True]
    assert targets.cells[0, 0] == 31
    assert targets.heatmaps[0, 0].max() == 1
    assert not targets.heatmaps[0, 1].any()
