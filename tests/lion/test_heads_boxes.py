"""Boxes survive the codes of every head; perfect predictions of the query- and anchor-based heads give them back."""

import math

import numpy as np
import pytest
import torch
from head_cases import BOXES, heads
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from visionseq.errors import ConfigError
from visionseq.lion import Detections
from visionseq.lion.heads.anchor import decode, encode
from visionseq.lion.heads.center_code import decoded
from visionseq.lion.heads.center_targets import center_targets, code_of
from visionseq.lion.heads.suppression import Suppression

sizes, metres = st.floats(0.125, 12, width=32), st.floats(-7.75, 7.75, width=32)
box = st.tuples(metres, metres, metres, sizes, sizes, sizes, st.floats(-7, 7, width=32))
velocity = st.tuples(metres, metres)
HEADS = heads()


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Boxes within a tenth of a millimetre, headings up to whole turns."""
    torch.testing.assert_close(found[..., :6], expected[..., :6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[..., 7:], expected[..., 7:], atol=1e-4, rtol=1e-4)
    turn = found[..., 6] - expected[..., 6]
    torch.testing.assert_close(turn.cos(), torch.ones_like(turn), atol=1e-5, rtol=0)


@given(box, velocity)
def test_a_center_head_decodes_what_it_encodes(values, speed):
    head = HEADS["center"]
    boxes = torch.tensor([[*values, *speed, 1.0]])
    targets = center_targets(boxes[None], head.groups[0], head.grid, 32, 32)
    same(head.decode(targets.boxes[:, :1], targets.cells[:, :1], 32)[0], boxes[:, :9])


def test_a_centre_in_the_last_half_cell_is_learned_at_its_middle():
    """As in the official targets: cells of 0.5 m end at 8 m."""
    head, boxes = HEADS["center"], BOXES[:1].clone()
    boxes[0, :2] = torch.tensor([7.9, -7.9])
    targets = head.targets(boxes[None], head.groups[0], 32, 32)
    place = head.decode(targets.boxes[:, :1], targets.cells[:, :1], 32)[0, 0, :2]
    torch.testing.assert_close(place, torch.tensor([7.75, -7.9]))


@given(box, st.integers(0, 31), st.integers(0, 31))
def test_a_sparse_head_decodes_what_it_encodes_at_any_cell(values, column, row):
    """The cell that learns a box need not be the one that its centre lies in."""
    grid, boxes = HEADS["sparse"].grid, np.array([[*values, 1.0]], np.float32)
    offset = np.stack([grid.cells(boxes[:, 0], 0) - column, grid.cells(boxes[:, 1], 1) - row], 1)
    code = torch.from_numpy(code_of(boxes, offset))
    same(decoded(code, torch.tensor([column]), torch.tensor([row]), grid), torch.from_numpy(boxes[:, :7]))


@given(box, velocity)
def test_a_transfusion_head_decodes_what_it_encodes(values, speed):
    frame, boxes = HEADS["transfusion"].frame, torch.tensor([[*values, *speed]])
    same(frame.decode(frame.encode(boxes)), boxes)


@given(box, st.integers(0, 32 * 32 * 6 - 1))
def test_an_anchor_head_decodes_what_it_encodes(values, number):
    anchor, boxes = HEADS["anchor"].anchors.view(-1, 7)[[number]], torch.tensor([values])
    same(decode(encode(boxes, anchor), anchor), boxes)


def test_a_transfusion_head_gives_perfect_predictions_back():
    head = HEADS["transfusion"]
    boxes = torch.cat([BOXES[:, :7], torch.tensor([[1.0, -2.0], [0.0, 0.5], [-3.0, 0.0]])], 1)
    code, classes = head.frame.encode(boxes).T[None], torch.tensor([[0, 8, 9]])  # the last two are suppressed
    one_hot = F.one_hot(classes, 10).transpose(1, 2).float()
    widths = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
    maps = dict(zip(widths, code.split(list(widths.values()), 1), strict=True))
    maps |= {"heatmap": one_hot * 40 - 20, "iou": torch.ones(1, 1, 3), "dense_heatmap": torch.zeros(1, 10, 16, 16)}
    (found,) = head.detections({**maps, "query_labels": classes, "query_heatmap_score": one_hot})
    same(found.boxes, boxes)
    assert found.labels.tolist() == [1, 9, 10]
    torch.testing.assert_close(found.scores, torch.ones(3))
    gt_boxes = torch.cat([boxes, classes[0, :, None] + 1.0], 1)[None]
    losses = head.losses({**maps, "query_labels": classes, "query_heatmap_score": one_hot}, gt_boxes)
    assert losses["loss_cls"] < 1e-6
    assert losses["loss_bbox"] < 1e-6
    assert losses["loss_iou"] < 1e-5


@pytest.mark.parametrize("turn", [0.0, math.pi / 2, math.pi, -3.0])
def test_an_anchor_head_gives_perfect_predictions_back(turn):
    """The residual does not tell a heading from its opposite; the direction does."""
    head, boxes = HEADS["anchor"], BOXES.clone()
    boxes[:, 6] += turn
    labels, residuals, headings = head.targets(boxes[None])
    cls = F.one_hot(labels.clamp(min=0), 4)[..., 1:].float() * 40 - 20
    bins = ((headings - head.dir_offset) % (2 * math.pi) / math.pi).floor().long()
    predictions = {"cls": cls, "box": residuals, "dir": F.one_hot(bins, 2).float() * 20}
    (found,) = head.detections(predictions)
    assert sorted(found.labels.tolist()) == [1, 2, 3]
    same(found.boxes[found.labels.argsort()], boxes[:, :7])
    losses = head.losses(predictions, boxes[None])
    assert all(value < 1e-5 for value in losses.values())


def test_one_threshold_serves_all_classes():
    apart = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0], [9.0, 0, 0, 2, 2, 2, 0], [0.1, 0, 0, 2, 2, 2, 0]])
    found = Detections(apart, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 3, 1]))
    kept = Suppression(kind="multi_class", thresholds=(0.5,))(found)
    assert kept.labels.tolist() == [1, 3]
    with pytest.raises(ConfigError, match="2 thresholds, expected one, or one for each of 3"):
        Suppression(kind="multi_class", thresholds=(0.5, 0.5))(found)
