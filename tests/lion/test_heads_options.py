"""Options of the heads beyond the published configurations: limits for each class, IoU and velocity branches."""

import pytest
import torch
from head_cases import BOXES, RANGE, VOXEL, features_for
from tiny_detector import NAMES

from visionseq.errors import ConfigError
from visionseq.geometry import iou3d
from visionseq.lion import Detections
from visionseq.lion.heads import CenterHead, SparseCenterHead, TransFusionHead
from visionseq.lion.heads.suppression import Suppression
from visionseq.nn.sparse import SparseTensor

MOVING = torch.cat([BOXES[:, :7], torch.tensor([[1.0, -2.0], [0.0, 0.5], [-3.0, 0.0]]), BOXES[:, 7:]], 1)
CELLS = torch.cartesian_prod(torch.arange(2), torch.arange(32), torch.arange(32))


def apart(labels: list[int]) -> Detections:
    """Boxes of these labels in a row, none touching another, by falling score."""
    boxes = torch.zeros(len(labels), 7)
    boxes[:, 0], boxes[:, 3:6] = torch.arange(len(labels)) * 9.0, 2.0
    return Detections(boxes, torch.linspace(0.9, 0.1, len(labels)), torch.tensor(labels))


def test_every_class_keeps_as_many_boxes_as_its_own_limits_say():
    suppression = Suppression("multi_class", (0.5, 0.4, 0.3), pre=(4, 2, 1), post=[2, 3, 1])
    kept = suppression(apart([1, 2, 3] * 5))
    assert kept.labels.tolist() == [1, 1, 2, 2, 3]
    one_limit = Suppression("multi_class", 0.5, pre=(4, 2, 1), post=2)(apart([1, 2, 3] * 5))
    assert one_limit.labels.tolist() == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pre": [3, 2]}, "nms: 2 pre, expected one, or one for each of 3 classes"),
        ({"thresholds": [0.5] * 4}, "nms: 4 thresholds, expected one, or one for each of 3 classes"),
        ({"kind": "class_agnostic", "post": [3, 2, 1]}, r"post \[3, 2, 1\], expected one value where boxes of all"),
        ({"post": 0}, "post 0, expected whole numbers from 1"),
        ({"pre": [10, None, 3]}, r"pre \[10, None, 3\], expected whole numbers"),
        ({"pre": []}, "pre is empty"),
        ({"thresholds": "0.5"}, "thresholds 0.5, expected numbers from 0 to 1"),
        ({"kind": "soft"}, "kind 'soft', expected class_agnostic or multi_class"),
    ],
)
@pytest.mark.parametrize("head", [CenterHead, SparseCenterHead])
def test_limits_that_match_no_class_are_refused_before_the_first_step(head, options, message):
    with pytest.raises(ConfigError, match=message):
        head(6, NAMES, RANGE, VOXEL, nms={"kind": "multi_class", **options})


def perfect(head: SparseCenterHead, boxes: torch.Tensor) -> tuple:
    """Cells everywhere, and for each group what codes `boxes` [B, M, X] without error."""
    cells = SparseTensor(torch.zeros(len(CELLS), 6), CELLS, (32, 32), 2)
    groups = []
    for group in head.groups:
        targets = head.targets(boxes, group, cells)
        values = {"heatmap": torch.where(targets.heatmaps == 1, 9.0, -20.0), "iou": torch.ones(len(CELLS), 1)}
        code = torch.zeros(len(CELLS), targets.boxes.shape[2])
        for sample in range(2):
            rows = targets.cells[sample, targets.mask[sample]] + sample * 1024
            code[rows] = targets.boxes[sample, targets.mask[sample]]
        widths = {name: {"center": 2, "center_z": 1, "dim": 3}.get(name, 2) for name in head.code}
        groups.append(values | dict(zip(widths, code.split(list(widths.values()), 1), strict=True)))
    return cells, groups


def test_a_sparse_head_learns_iou_and_velocity():
    """Perfect boxes with the IoU predicted as 1 have no loss; a predicted IoU of 0 costs 1 and lowers the score."""
    weights = (1.0,) * 10
    groups = [["Car"], ["Pedestrian", "Cyclist"]]
    head = SparseCenterHead(
        6, NAMES, RANGE, VOXEL, groups, velocity=True, iou=True, code_weights=weights, iou_rectifier=[0.5, 0.5, 1.0]
    )
    boxes = torch.stack([MOVING, MOVING[[2, 0, 1]]])
    predictions = perfect(head, boxes)
    losses = head.losses(predictions, boxes)
    assert losses["iou_loss_head_0"] < 1e-4
    assert losses["loc_loss_head_1"] < 1e-4
    detections = head.detections(predictions)[1]
    order = detections.labels.argsort()
    torch.testing.assert_close(detections.boxes[order][:, 7:], MOVING[:, 7:9])
    for values in predictions[1]:
        values["iou"] -= 1
    torch.testing.assert_close(head.losses(predictions, boxes)["iou_loss_head_1"], torch.tensor(1.0), atol=1e-4, rtol=0)
    lowered = head.detections(predictions)[0].scores
    heat = torch.tensor(9.0).sigmoid()
    torch.testing.assert_close(lowered, torch.stack([(heat * 0.5) ** 0.5, (heat * 0.5) ** 0.5, heat**0 * 0.5]))


def test_the_iou_branch_learns_the_overlap_of_its_own_box():
    """Both heads: shifted boxes have the loss |1 - (2 IoU - 1)|, averaged over the objects."""
    torch.manual_seed(0)
    sparse = SparseCenterHead(6, NAMES, RANGE, VOXEL, iou=True)
    boxes = torch.stack([BOXES, BOXES])
    cells, (values,) = perfect(sparse, boxes)
    values["center_z"] = values["center_z"] + 0.3
    shifted = BOXES[:, :7] + torch.tensor([0, 0, 0.3, 0, 0, 0, 0])
    expected = (2 - 2 * iou3d(shifted, BOXES[:, :7], aligned=True)).mean()
    torch.testing.assert_close(sparse.losses((cells, [values]), boxes)["iou_loss_head_0"], expected, atol=1e-4, rtol=0)

    dense = CenterHead(6, NAMES, RANGE, VOXEL, iou=True)
    maps = {name: value.view(2, 32, 32, -1).permute(0, 3, 1, 2) for name, value in values.items()}
    maps["hm"] = maps.pop("heatmap")
    torch.testing.assert_close(dense.losses([maps], boxes)["iou_loss_head_0"], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("head", [CenterHead, SparseCenterHead])
def test_branches_may_differ_in_depth_and_have_biases(head):
    heat = "hm" if head is CenterHead else "heatmap"
    depths = {"center": 1, "center_z": 2, "dim": 3, "rot": 2, "iou": 2, heat: 3}
    options = {"shared_conv_channel": 6} if head is CenterHead else {}
    module = head(6, NAMES, RANGE, VOXEL, num_conv=depths, iou=True, use_bias_before_norm=True, **options)
    branches = module.heads_list[0]
    assert {name: len(layers) for name, layers in branches.items()} == depths
    assert all(layer[0].bias is not None for layers in branches.values() for layer in list(layers)[:-1])
    features = features_for("center" if head is CenterHead else "sparse")
    losses = module.losses(module(features), torch.stack([BOXES, BOXES]))
    assert losses["loss"].isfinite()
    with pytest.raises(ConfigError, match="num_conv of dim: 0, expected a whole number from 1 to 64"):
        head(6, NAMES, RANGE, VOXEL, num_conv={**depths, "dim": 0})


def test_what_the_iou_cannot_correct_is_refused():
    for head in (CenterHead, SparseCenterHead):
        with pytest.raises(ConfigError, match="iou_rectifier needs the branch iou"):
            head(6, NAMES, RANGE, VOXEL, iou_rectifier=0.5)
        with pytest.raises(ConfigError, match="one value in \\[0, 1\\] for each class"):
            head(6, NAMES, RANGE, VOXEL, iou=True, iou_rectifier=[0.5, 0.5])
    with pytest.raises(ConfigError, match=r"small_classes \[8, 9\], expected numbers below 3"):
        TransFusionHead(6, NAMES, RANGE, VOXEL)
    with pytest.raises(ConfigError, match="8 code_weights, expected 10"):
        TransFusionHead(6, [str(i) for i in range(10)], RANGE, VOXEL, code_weights=(1.0,) * 8)
