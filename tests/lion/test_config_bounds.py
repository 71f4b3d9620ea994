"""Detectors from values that nobody means: a named error at once, whatever number stands where."""

import contextlib
import copy
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from head_cases import ANCHORS
from tiny_detector import tiny_config

from visionseq.errors import CheckpointError, ConfigError
from visionseq.lion import LionDetector
from visionseq.lion.heads.gaussian import draw_gaussian
from visionseq.saving.pretrained import AllocationLimit

BRANCHES = {"center": 2, "center_z": 2, "dim": 2, "rot": 2, "iou": 2, "hm": 2}
HEADS = {
    "center": {
        "type": "CenterHead", "shared_conv_channel": 8, "iou": True, "num_conv": BRANCHES, "num_max_objs": 20,
        "class_names_each_head": [["Car"], ["Pedestrian", "Cyclist"]], "max_obj_per_sample": 30, "min_radius": 2,
        "nms": {"kind": "multi_class", "thresholds": [0.5, 0.5, 0.5], "pre": [9, 9, 9], "post": 5},
        "feature_map_stride": 1, "iou_rectifier": [0.5, 0.5, 0.5], "code_weights": [1.0] * 8,
    },
    "anchor": {"type": "AnchorHeadSingle", "anchors": ANCHORS, "rotations": [0.0, 1.57], "num_dir_bins": 2,
               "feature_map_stride": 1, "nms": {"thresholds": [0.1], "pre": 9, "post": 9}},
    "transfusion": {"type": "TransFusionHead", "num_proposals": 4, "hidden_channel": 8, "num_heads": 2,
                    "ffn_channel": 8, "nms_kernel_size": 3, "small_classes": [1, 2], "feature_map_stride": 1,
                    "min_radius": 2, "nms_pre": 9, "nms_post": 5, "code_weights": [1.0] * 10},
}  # fmt: skip
BACKBONE = {
    "type": "LION3DBackboneOneStride", "feature_dim": 8, "group_size": [64, 32, 32, 16], "depths": [2, 2, 2, 2],
    "window_shape": [[13, 13, 32], [13, 13, 16], [13, 13, 8], [13, 13, 4]], "diff_scale": 0.2,
    "layer_down_scales": [[[2, 2, 2], [2, 2, 2]]] * 4, "direction": ["x", "y"],
    "operator": {"name": "Mamba", "d_state": 4, "d_conv": 4, "expand": 2, "drop_path": 0.0},
}  # fmt: skip
ODD = [1_000_000, 10**12, 10**30, 0, -1, math.nan, None, "many", [], [1] * 10_000, {}]


def values_of(head: str) -> dict:
    return copy.deepcopy(tiny_config(backbone_3d=BACKBONE, dense_head=HEADS[head]))


def places(value, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all values and lists in a configuration."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(values: dict, path: tuple, value) -> dict:
    *way, last = path
    section = values
    for key in way:
        section = section[key]
    section[last] = value
    return values


def build(values: dict) -> None:
    with AllocationLimit([torch.empty(1000, device="meta")] * 100):
        LionDetector.from_config(values)


def check(head: str, path: tuple, odd) -> None:
    """The detector is built, or refused with a message; nothing else comes out, and no memory is taken."""
    with contextlib.suppress(ConfigError, CheckpointError):
        build(replaced(values_of(head), path, odd))


@pytest.mark.parametrize("head", HEADS)
def test_one_odd_value_anywhere_is_refused_or_harmless(head):
    build(values_of(head))
    for number, path in enumerate(list(places(values_of(head)))[::3]):
        check(head, path, ODD[number % len(ODD)])


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
@pytest.mark.parametrize("head", HEADS)
def test_every_odd_value_everywhere_is_refused_or_harmless(head, odd):
    for path in places(values_of(head)):
        check(head, path, odd)


@pytest.mark.parametrize(
    ("head", "path", "value", "message"),
    [
        ("center", ("backbone_3d", "depths"), [1_000_000] * 4, "backbone_3d: depths: 1000000, expected a whole number"),
        ("center", ("backbone_3d", "direction"), ["x"] * 1_000_000, "backbone_3d: direction, expected 1 to 64 of x"),
        ("center", ("backbone_3d", "group_size"), [10**9] * 4, "group_size: 1000000000, expected .* to 1,048,576"),
        ("center", ("backbone_2d", "layer_nums"), [1_000_000], "backbone_2d: layer_nums: 1000000, expected"),
        ("center", ("backbone_2d", "num_filters"), [8] * 1_000_000, "backbone_2d: filters: .*, expected a list of"),
        ("center", ("vfe", "num_filters"), [2] * 1_000_000, "vfe: num_filters: .*, expected a list of at most 64"),
        ("center", ("dense_head", "num_conv"), 1_000_000, "num_conv of center: 1000000, expected .* to 64"),
        ("center", ("dense_head", "num_max_objs"), 10**12, "num_max_objs: 1000000000000, expected"),
        ("center", ("voxel_size",), [1e-7, 0.8, 0.125], "1.28e.08 x 16 x 32 voxels, too many for a detector"),
        ("center", ("class_names",), ["Car"] * 3, "class_names: .*, expected 1 to 1000 names, each once"),
        ("anchor", ("dense_head", "rotations"), [0.0] * 1_000_000, "dense_head: anchors of .* values, expected"),
        ("transfusion", ("dense_head", "num_proposals"), 10**12, "num_proposals: 1000000000000, expected"),
        ("transfusion", ("dense_head", "nms_kernel_size"), 4, "nms_kernel_size 4, expected an odd number"),
    ],
)  # fmt: skip
def test_a_number_beyond_all_reason_is_named(head, path, value, message):
    with pytest.raises(ConfigError, match=message):
        LionDetector.from_config(replaced(values_of(head), path, value))


@pytest.mark.parametrize("centre", [(3, 2), (-40, 2), (10**6, 0), (0, -5)])
def test_heat_of_a_box_as_wide_as_a_country_takes_the_memory_of_the_map(centre):
    heat = np.zeros((5, 7), np.float32)
    x, y = centre
    draw_gaussian(heat, x, y, 60_000)
    rows, columns = np.mgrid[:5, :7]
    expected = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (120_001 / 6) ** 2))
    inside = max(abs(x), abs(y)) <= 60_000
    np.testing.assert_allclose(heat, expected * inside, atol=1e-6)


def test_labels_of_any_size_are_learned_within_the_memory_of_the_map():
    model = LionDetector.from_config(values_of("center"))
    boxes = torch.tensor([[0.0, 0, 0, 1e30, 1e30, 1e30, 0, 1], [1.0, 1, 0, 3e38, 1e-30, 1, 0, 2]])
    for group in model.dense_head.groups:
        targets = model.dense_head.targets(boxes[None], group, 16, 16)
        assert targets.heatmaps.isfinite().all()
