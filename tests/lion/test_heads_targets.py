"""Targets against their definitions, written out cell by cell, and what the heads put up with."""

import math

import pytest
import torch
from head_cases import ANCHORS, BOXES, KINDS, RANGE, VOXEL, boxes_for, features_for, heads
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_detector import NAMES

from visionseq.errors import ConfigError
from visionseq.geometry import nearest_bev_iou
from visionseq.lion.heads import AnchorHeadSingle, CenterHead
from visionseq.nn.sparse import SparseTensor


def scene(seed: int, count: int) -> torch.Tensor:
    """Boxes [1, count, 8] in and around the map, two of them the same."""
    random = torch.Generator().manual_seed(seed)
    values = torch.rand(count, 8, generator=random)
    values[:, :2] = values[:, :2] * 20 - 10
    values[:, 3:6] = values[:, 3:6] * 5 + 0.1
    values[:, 6] = values[:, 6] * 12 - 6
    values[:, 7] = (values[:, 7] * 3).floor() + 1
    values[1:2] = values[:1]
    return values[None]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 8))
def test_anchors_far_from_all_boxes_need_no_overlap(seed, count):
    """The head looks at anchors near boxes alone; the rule over all of them gives the same labels."""
    head, boxes = heads()["anchor"], scene(seed, count)
    labels, _, _ = head.targets(boxes)
    anchors = head.anchors.flatten(0, 1)
    for label, anchor in enumerate(ANCHORS):
        own = boxes[0][boxes[0, :, 7] == label + 1][:, :7]
        expected = torch.zeros(anchors.shape[0] * 2, dtype=torch.int64)
        if len(own):
            iou = nearest_bev_iou(anchors[:, label].reshape(-1, 7), own)
            best_of_box = iou.amax(0)
            best = iou.amax(1)
            expected[best >= anchor["negative"]] = -1
            expected[(best >= anchor["positive"]) | ((iou == best_of_box) & (best_of_box > 0)).any(1)] = label + 1
        assert torch.equal(labels.view(-1, 3, 2)[:, label].flatten(), expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(1, 6))
def test_sparse_heat_is_one_at_the_nearest_cell_and_ends_at_the_radius(seed, cells, count):
    head, boxes = heads()["sparse"], scene(seed, count)
    random = torch.Generator().manual_seed(seed)
    indices = torch.randint(0, 32, (cells, 3), generator=random)
    indices[:, 0] = 0
    indices = indices.unique(dim=0)[torch.randperm(len(indices.unique(dim=0)), generator=random)]
    x = SparseTensor(torch.zeros(len(indices), 6), indices, (32, 32), 1)
    for group in head.groups:
        targets = head.targets(boxes, group, x)
        own = boxes[0][torch.isin(boxes[0, :, 7], torch.tensor(group).float())]
        expected = torch.zeros(len(indices), len(group))
        for slot, (box, radius) in enumerate(zip(own, head.grid.radii(own.numpy()).tolist(), strict=True)):
            centre = ((box[:2] + 8) / 0.5).clamp(0, 31.5)
            squares = (indices[:, [2, 1]] - centre.long()).square().sum(1)
            assert targets.cells[0, slot] == squares.argmin()
            bell = (-(squares - squares.min()) / (2 * ((2 * radius + 1) / 6) ** 2)).exp()
            bell[squares > 2 * radius**2] = 0
            number = group.index(int(box[7]))
            expected[:, number] = torch.maximum(expected[:, number], bell)
            offset = targets.boxes[0, slot, :2] + indices[squares.argmin(), [2, 1]]
            torch.testing.assert_close(offset, centre, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(targets.heatmaps, expected, atol=1e-5, rtol=1e-4)
        assert targets.mask.sum() == len(own)


@pytest.mark.parametrize("name", ["center", "transfusion"])
def test_an_unknown_velocity_teaches_nothing(name):
    torch.manual_seed(0)
    head, features = heads()[name], features_for(name)
    if name == "center":
        head = CenterHead(6, NAMES, RANGE, VOXEL, velocity=True, shared_conv_channel=8, code_weights=(1.0,) * 10)
    boxes = torch.cat([BOXES[:, :7], torch.full((3, 2), math.nan), BOXES[:, 7:]], 1).expand(2, 3, 10)
    losses = head.losses(head(features), boxes)
    losses["loss"].backward()
    branch = head.heads_list[0]["vel"] if name == "center" else head.prediction_head["vel"]
    assert losses["loss"].isfinite()
    assert all(not parameter.grad.any() for parameter in branch.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_half_precision_ends_at_the_predictions(name):
    """In bfloat16 the columns of a large map could not be told apart, and certain heat would be an infinite loss."""
    torch.manual_seed(0)
    head, features = heads()[name], features_for(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = head.losses(head(features), boxes_for(name, BOXES, BOXES))
        found = head.eval().detections(head(features))
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
    assert all(values.boxes.dtype == values.scores.dtype == torch.float32 for values in found)


def test_rows_of_a_sparse_map_may_come_in_any_order():
    """Cells of the samples lie mixed; perfect codes at the targets' cells leave no error."""
    torch.manual_seed(0)
    head = heads()["sparse"]
    indices = torch.cartesian_prod(torch.arange(2), torch.arange(32), torch.arange(32))[torch.randperm(2048)]
    x, boxes = SparseTensor(torch.zeros(2048, 6), indices, (32, 32), 2), torch.stack([BOXES, BOXES[[2, 0, 1]] * 0.9])
    boxes[1, :, 7] = BOXES[[2, 0, 1], 7]
    for number, group in enumerate(head.groups):
        targets, code = head.targets(boxes, group, x), torch.zeros(2048, 8)
        for sample in range(2):
            rows = (indices[:, 0] == sample).nonzero()[:, 0][targets.cells[sample][targets.mask[sample]]]
            code[rows] = targets.boxes[sample][targets.mask[sample]]
        values = dict(zip(("center", "center_z", "dim", "rot"), code.split([2, 1, 3, 2], 1), strict=True))
        groups = [{**values, "heatmap": torch.zeros(2048, len(each))} for each in head.groups]
        assert targets.mask.any()
        assert head.losses((x, groups), boxes)[f"loc_loss_head_{number}"] == 0


@pytest.mark.parametrize("cells", [[], [[0, 3, 4], [0, 5, 6]]])
def test_a_sparse_map_may_have_few_cells_or_none(cells):
    torch.manual_seed(0)
    head, indices = heads()["sparse"], torch.tensor(cells, dtype=torch.int64).view(-1, 3)
    x = SparseTensor(torch.randn(len(indices), 6), indices, (32, 32), 2)
    losses = head.losses(head(x), BOXES.expand(2, 3, 8))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert len(head.eval().detections(head(x))[1]) == 0


def test_more_objects_than_proposals_and_more_proposals_than_peaks():
    torch.manual_seed(0)
    head = heads()["transfusion"]
    head.num_proposals = 2
    predictions, boxes = head(features_for("transfusion")), boxes_for("transfusion", BOXES, BOXES)
    assert head.assignment(predictions, boxes).matched.sum() == 4
    head.num_proposals = 10_000
    predictions = head(torch.randn(2, 6, 4, 4))
    assert predictions["query_labels"].shape == (2, 160)
    assert head.losses(predictions, boxes)["loss"].isfinite()


def test_what_a_head_cannot_take_is_refused():
    with pytest.raises(ConfigError, match=r"\(12, 16\) cells, TransFusionHead needs a square one"):
        heads()["transfusion"](torch.randn(1, 6, 12, 16))
    with pytest.raises(ConfigError, match=r"\(2, 2\) cells, TransFusionHead needs a square one of at least 3 a side"):
        heads()["transfusion"](torch.randn(1, 6, 2, 2))
    assert heads()["transfusion"].eval()(torch.randn(1, 6, 3, 3))["query_labels"].shape == (1, 8)
    with pytest.raises(ConfigError, match=r"map of \(16, 16\) cells, the anchors have \(32, 32\)"):
        heads()["anchor"](torch.randn(1, 6, 16, 16))
    with pytest.raises(ConfigError, match="expected 0 < negative <= positive"):
        AnchorHeadSingle(6, NAMES, RANGE, VOXEL, [{**anchor, "negative": 0.9} for anchor in ANCHORS])
    with pytest.raises(ConfigError, match="2 anchors for 3 classes"):
        AnchorHeadSingle(6, NAMES, RANGE, VOXEL, ANCHORS[:2])
    with pytest.raises(ConfigError, match="9 code_weights, expected 8"):
        CenterHead(6, NAMES, RANGE, VOXEL, code_weights=(1.0,) * 9)


def moving(boxes: torch.Tensor) -> torch.Tensor:
    """The same boxes with a velocity."""
    return torch.cat([boxes[..., :7], torch.ones(*boxes.shape[:-1], 2), boxes[..., 7:]], -1)


@pytest.mark.parametrize("name", ["center", "sparse", "anchor"])
def test_a_head_without_velocity_passes_over_it(name):
    head, boxes = heads()[name].train(), boxes_for(name, BOXES, BOXES)
    predictions = head(features_for(name))
    expected = head.losses(predictions, boxes)
    for part, value in head.losses(predictions, moving(boxes)).items():
        torch.testing.assert_close(value, expected[part])


def test_a_head_with_velocity_needs_it():
    wanted = [CenterHead(6, NAMES, RANGE, VOXEL, shared_conv_channel=8, velocity=True, code_weights=[1.0] * 10)]
    for head in [*wanted, heads()["transfusion"]]:
        kind = "transfusion" if head is not wanted[0] else "center"
        with pytest.raises(ConfigError, match="predicts velocity"):
            head.losses(head(features_for(kind)), BOXES[None].repeat(2, 1, 1))


def test_boxes_of_another_width_are_refused():
    head = heads()["center"]
    with pytest.raises(ConfigError, match=r"gt_boxes \[2, 3, 7\]"):
        head.losses(head(features_for("center")), BOXES[None, :, :7].repeat(2, 1, 1))
