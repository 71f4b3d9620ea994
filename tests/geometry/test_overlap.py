"""Overlap of boxes: values worked out by hand, invariants, degenerate boxes, and shapely where it is installed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.geometry import bev_intersection, bev_iou, iou3d, nearest_bev_iou

MEASURES = [bev_intersection, bev_iou, iou3d, nearest_bev_iou]
LONG = [0.0, 0.0, 0.0, 4.0, 2.0, 1.5, 0.0]

sizes = st.floats(0.05, 12)
places = st.floats(-6, 6)
headings = st.floats(-7, 7)
boxes = st.tuples(places, places, places, sizes, sizes, sizes, headings).map(
    lambda box: torch.tensor([box], dtype=torch.float64)
)


def box(**changes: float) -> torch.Tensor:
    names = ("x", "y", "z", "dx", "dy", "dz", "heading")
    values = [changes.get(name, value) for name, value in zip(names, LONG, strict=True)]
    return torch.tensor([values], dtype=torch.float64)


def value(measure, a: torch.Tensor, b: torch.Tensor) -> float:
    return measure(a, b).item()


@pytest.mark.parametrize(
    ("measure", "a", "b", "expected"),
    [
        (bev_iou, box(), box(heading=math.pi / 2), 1 / 3),
        (bev_iou, box(), box(x=2), 1 / 3),
        (iou3d, box(), box(z=0.75), 1 / 3),
        (bev_intersection, box(dx=1, dy=1), box(dx=1, dy=1, heading=math.pi / 4), 2 * (math.sqrt(2) - 1)),
        (bev_iou, box(dx=1, dy=1), box(dx=1, dy=1, heading=math.pi / 4), 0.5**0.5),
        (nearest_bev_iou, box(heading=0.3), box(heading=math.pi / 2 + 0.3), 1 / 3),
        (nearest_bev_iou, box(heading=0.3), box(heading=math.pi - 0.3), 1),
    ],
)
def test_values_by_hand(measure, a, b, expected):
    assert value(measure, a, b) == pytest.approx(expected, abs=1e-12)


@given(boxes, st.integers(-4, 4))
def test_a_box_is_its_own_equal_whatever_the_half_turns(a, half_turns):
    turned = a.clone()
    turned[:, 6] += half_turns * math.pi
    assert value(bev_iou, a, turned) == 1
    assert value(iou3d, a, turned) == 1
    assert value(bev_intersection, a, turned) == (a[:, 3] * a[:, 4]).item()


@given(boxes, st.sampled_from([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1)]))
def test_boxes_that_touch_share_nothing(a, direction):
    along, across = direction[0] * a[0, 3], direction[1] * a[0, 4]
    cos, sin = torch.cos(a[0, 6]), torch.sin(a[0, 6])
    beside = a.clone()
    beside[0, 0] += cos * along - sin * across
    beside[0, 1] += sin * along + cos * across
    assert value(bev_intersection, a, beside) == 0
    assert value(iou3d, a, beside) == 0


def test_boxes_stacked_on_each_other_share_nothing():
    assert value(iou3d, box(), box(z=1.5)) == 0


@given(boxes, boxes)
def test_symmetric_and_between_0_and_1(a, b):
    for measure in (bev_iou, iou3d, nearest_bev_iou):
        assert 0 <= value(measure, a, b) <= 1
    for measure in MEASURES:
        assert value(measure, a, b) == pytest.approx(value(measure, b, a), abs=1e-9)


@given(boxes, boxes, headings, places, places)
def test_moving_both_boxes_changes_nothing(a, b, angle, x, y):
    before = [value(measure, a, b) for measure in (bev_intersection, iou3d)]
    moved = []
    cos, sin = math.cos(angle), math.sin(angle)
    for each in (a, b):
        each = each.clone()
        centre = each[0, :2].clone()
        each[0, 0] = cos * centre[0] - sin * centre[1] + x
        each[0, 1] = sin * centre[0] + cos * centre[1] + y
        each[0, 6] += angle
        moved.append(each)
    after = [value(measure, *moved) for measure in (bev_intersection, iou3d)]
    assert after == pytest.approx(before, abs=1e-9)


@given(boxes, st.floats(0.01, 0.7), headings)
def test_a_box_inside_another_shares_its_whole_area(outer, share, turn):
    inner = outer.clone()
    inner[:, 3:5] = outer[:, 3:5].min() * share
    inner[:, 6] += turn
    area = (inner[:, 3] * inner[:, 4]).item()
    assert value(bev_intersection, outer, inner) == pytest.approx(area, rel=1e-12)


@given(boxes, st.lists(st.sampled_from([3, 4, 5]), min_size=1))
@pytest.mark.parametrize("size", [0.0, -1.0])
def test_a_box_without_extent_overlaps_nothing(size, a, axes):
    flat = a.clone()
    flat[:, axes] = size
    for other in (a, flat):
        assert value(iou3d, other, flat) == 0
        if {3, 4} & set(axes):
            assert value(bev_intersection, other, flat) == value(bev_iou, flat, other) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("column", [0, 1, 3, 4, 6])
def test_values_that_are_not_finite_stay_visible(bad, column):
    broken = box()
    broken[:, column] = bad
    far = box(x=1000)
    assert bev_iou(torch.cat([box(), broken]), far)[:, 0].isnan().tolist() == [False, True]
    assert bev_iou(far, broken).isnan().all()


def test_aligned_is_the_diagonal_and_empty_sets_are_fine():
    rng = torch.Generator().manual_seed(1)
    a, b = (torch.rand(9, 7, generator=rng) * 4 + 0.1 for _ in range(2))
    for measure in MEASURES:
        assert torch.equal(measure(a, b, aligned=True), measure(a, b).diagonal())
        assert measure(a[:0], b).shape == (0, 9)
        assert measure(a, b[:0]).shape == (9, 0)
        assert measure(a[:0], b[:0], aligned=True).shape == (0,)


def test_dtype_follows_the_first_set_and_velocities_are_ignored():
    a = torch.rand(3, 7, dtype=torch.float64)
    assert iou3d(a.float(), a).dtype == torch.float32
    assert torch.equal(iou3d(torch.cat([a, torch.rand(3, 2)], 1), a), iou3d(a, a))


def test_same_bits_whatever_the_number_of_threads():
    a = torch.rand(40, 7, generator=torch.Generator().manual_seed(2)) * 5
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        results.append(iou3d(a, a))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("shape", [(7,), (3, 6), (2, 3, 7)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ConfigError, match="boxes_b of shape"):
        bev_iou(box(), torch.zeros(shape))
    with pytest.raises(ConfigError, match="1 and 2 boxes"):
        bev_iou(box(), torch.zeros(2, 7), aligned=True)


def test_agrees_with_shapely():
    shapely = pytest.importorskip("shapely")
    rng = np.random.default_rng(0)
    sets = rng.uniform([-4, -4, 0, 0.2, 0.2, 1, -7], [4, 4, 1, 8, 4, 2, 7], (2, 40, 7))
    areas = [[_polygon(shapely, a).intersection(_polygon(shapely, b)).area for b in sets[1]] for a in sets[0]]
    ours = bev_intersection(torch.from_numpy(sets[0]), torch.from_numpy(sets[1]))
    assert np.abs(ours.numpy() - np.array(areas)).max() < 1e-10


def _polygon(shapely, box: np.ndarray):
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * box[3:5] / 2
    cos, sin = np.cos(box[6]), np.sin(box[6])
    return shapely.Polygon(corners @ np.array([[cos, sin], [-sin, cos]]) + box[:2])
