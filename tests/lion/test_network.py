"""The network's parts: orders, groups, merging, and inputs at the edge of what there is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_detector import NAMES, batch_of, cloud, tiny_config

from visionseq.errors import ConfigError
from visionseq.lion import LionDetector
from visionseq.lion.merge import PatchMerging3D
from visionseq.lion.windows import group_places, window_order
from visionseq.nn.sparse import SparseTensor

SHAPE = (8, 12, 16)


def voxels(counts: list[int], channels: int = 4, seed: int = 0) -> SparseTensor:
    random = torch.Generator().manual_seed(seed)
    parts = []
    for sample, count in enumerate(counts):
        place = torch.randperm(SHAPE[0] * SHAPE[1] * SHAPE[2], generator=random)[:count]
        z, rest = place.div(SHAPE[1] * SHAPE[2], rounding_mode="floor"), place % (SHAPE[1] * SHAPE[2])
        columns = [torch.full_like(z, sample), z, rest.div(SHAPE[2], rounding_mode="floor"), rest % SHAPE[2]]
        parts.append(torch.stack(columns, 1))
    indices = torch.cat(parts)
    features = torch.randn((len(indices), channels), generator=random)
    return SparseTensor(features, indices, SHAPE, len(counts))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 70), min_size=1, max_size=4), st.integers(1, 40), st.booleans(), st.sampled_from("xy"))
def test_every_voxel_has_one_place_in_whole_groups_of_its_sample(counts, size, shift, direction):
    x = voxels(counts)
    order = window_order(x.indices, SHAPE, (5, 7, 4), shift, direction)
    assert sorted(order.tolist()) == list(range(len(x.features)))
    groups = group_places(counts, size)
    assert len(groups.sources) % size == 0
    assert torch.equal(groups.sources[groups.places], torch.arange(sum(counts)))
    samples = x.indices[order, 0][groups.sources].view(-1, size)
    assert (samples == samples[:, :1]).all()
    assert torch.equal(samples[:, 0].bincount(minlength=len(counts)), torch.tensor([-(-n // size) for n in counts]))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=3), st.booleans())
def test_merging_keeps_the_sum_and_knows_where_voxels_went(counts, diffusion):
    x = voxels(counts)
    merge = PatchMerging3D(4, (2, 2, 2), diffusion)
    merge.norm = torch.nn.Identity()
    found, row = merge(x)
    expected = torch.zeros_like(found.features).index_add(0, row, merge.describe(x))
    torch.testing.assert_close(found.features, expected)
    assert torch.equal(found.indices[row], x.indices.div(torch.tensor([1, 2, 2, 2]), rounding_mode="floor"))
    keys = (found.indices * torch.tensor([10**6, 1, 100, 10**4])).sum(1)
    assert (keys.diff() > 0).all()  # by sample, x, y, z, each once


def test_generated_voxels_are_diagonal_neighbours_of_the_strongest():
    x = voxels([50])
    merge = PatchMerging3D(4, (1, 1, 2), True, 0.2)
    described = merge.describe(x)
    generated = merge.generate(x, described)
    strongest = x.indices[described.mean(1).topk(10).indices]
    assert len(generated) == 40
    distance = (generated[:, None] - strongest[None]).abs()
    assert ((distance[..., :2] == 0).all(-1) & (distance[..., 2:] <= 1).all(-1)).any(1).all()


def test_a_grid_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="expected multiples"):
        PatchMerging3D(4, (3, 2, 2))(voxels([5]))


def test_a_frame_gives_the_same_boxes_alone_and_in_a_batch(detector):
    clouds = [cloud(200, 1), np.zeros((0, 4), np.float32), cloud(1, 2), cloud(300, 3)]
    together = detector.detect(batch_of(*clouds), 4)
    for found, points in zip(together, clouds, strict=True):
        (alone,) = detector.detect(batch_of(points), 1)
        assert torch.equal(found.boxes, alone.boxes)
        assert torch.equal(found.scores, alone.scores)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_train_and_detect(detector, count):
    points = batch_of(cloud(count), np.zeros((0, 4), np.float32))
    gt_boxes = torch.zeros(2, 1, 8)
    losses = detector.train().losses(points, 2, gt_boxes)
    assert losses["loss"].isfinite()
    losses["loss"].backward()
    assert len(detector.eval().detect(points, 2)) == 2


def test_points_beyond_the_range_and_not_finite_ones_have_no_voxel(detector):
    points = cloud(50)
    bad = points.copy()
    bad[:4] = [[np.nan, 0, 0, 0], [np.inf, 0, 0, 0], [100, 0, 0, 0], [6.4, 0, 0, 0]]
    found = detector.vfe(batch_of(bad), 1)
    torch.testing.assert_close(found.features, detector.vfe(batch_of(points[4:]), 1).features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vfe": {"type": "Other", "num_filters": [8]}}, "vfe: type 'Other'"),
        ({"vfe": {"num_filters": [8], "unknown": 1}}, "vfe: .*unknown"),
        ({"backbone_3d": {"feature_dim": 8, "operator": {"name": "LSTM"}}}, "operator 'LSTM'"),
        ({"dense_head": {"type": "CenterHead", "class_names_each_head": [["Tram"]]}}, "class_names_each_head: Tram"),
        ({"backbone_2d": None}, "SparseCenterHead takes a sparse map"),
    ],
)
def test_a_part_that_does_not_fit_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        LionDetector.from_config(tiny_config(**changes))


def test_points_with_another_number_of_columns_are_refused(detector):
    with pytest.raises(ConfigError, match=r"points \[5, 4\], expected \[N, 5\]"):
        detector(torch.zeros(5, 4), 1)


@pytest.mark.parametrize("name", ["RWKV", "RetNet", "xLSTM", "TTT"])
def test_every_operator_trains(name):
    config = tiny_config()
    config["backbone_3d"] = {**config["backbone_3d"], "operator": {"name": name}}
    network = LionDetector.from_config(config)
    gt_boxes = torch.tensor([[[1.0, 1, 0, 2, 1, 1, 0.3, 1]]])
    network.losses(batch_of(cloud(80)), 1, gt_boxes)["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert network.class_names == NAMES
