"""Voxels: the definition in plain Python, limits, the grid's edges, and points that are nowhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionseq.data.voxels import grid_size, hard_voxels, voxel_indices
from visionseq.errors import ConfigError

SIZE, RANGE = [0.5, 0.5, 0.25], [0, -2, -1, 4, 2, 1]
GRID = (8, 8, 8)


def plain(points, max_points, max_voxels):
    """First come, first served, with a dictionary; a voxel is a list of the numbers of its points."""
    place = np.floor((points[:, :3] - np.float32(RANGE[:3])) / np.float32(SIZE))
    voxels: dict[tuple[int, ...], list[int]] = {}
    for n, cell in enumerate(place):
        if not ((cell >= 0) & (cell < GRID)).all():
            continue
        key = tuple(int(value) for value in cell[::-1])
        if key not in voxels and len(voxels) == max_voxels:
            continue
        members = voxels.setdefault(key, [])
        if len(members) < max_points:
            members.append(n)
    return voxels


@given(st.integers(0, 10**6), st.integers(0, 200), st.integers(1, 4), st.integers(1, 150))
def test_equals_the_definition(seed, number, max_points, max_voxels):
    rng = np.random.default_rng(seed)
    points = rng.uniform([-1, -3, -1.2, 0, 0], [5, 3, 1.2, 1, 1], (number, 5)).astype(np.float32)
    points[::3] = np.round(points[::3] * 4) / 4  # on the faces
    found = hard_voxels(points, SIZE, RANGE, max_points, max_voxels)
    expected = plain(points, max_points, max_voxels)
    assert [tuple(cell) for cell in found.coords.tolist()] == list(expected)
    assert found.num_points.tolist() == [len(members) for members in expected.values()]
    for voxel, members in zip(found.voxels, expected.values(), strict=True):
        assert np.array_equal(voxel[: len(members)], points[members])
        assert not voxel[len(members) :].any()


@given(st.integers(0, 10**6))
def test_dynamic_and_hard_voxels_agree_where_nothing_is_dropped(seed):
    points = np.random.default_rng(seed).uniform([-1, -3, -1], [5, 3, 1], (120, 3)).astype(np.float32)
    hard, dynamic = hard_voxels(points, SIZE, RANGE, 120, 120), voxel_indices(points, SIZE, RANGE)
    assert hard.num_points.sum() == dynamic.valid.sum() == len(dynamic.coords)
    assert {tuple(c[::-1]) for c in hard.coords.tolist()} == {tuple(c) for c in dynamic.coords.tolist()}


def test_the_lower_bound_is_inside_and_the_upper_one_outside():
    points = np.array([[0, -2, -1], [4, 0, 0], [0, 2, 0], [0, 0, 1], [3.999, 1.999, 0.999]])
    found = voxel_indices(points, SIZE, RANGE)
    assert found.valid.tolist() == [True, False, False, False, True]
    assert found.coords.tolist() == [[0, 0, 0], [7, 7, 7]]
    assert grid_size(SIZE, RANGE) == GRID


def test_points_that_are_not_finite_have_no_voxel():
    points = np.full((4, 4), 0.1, np.float32)
    points[0, 0], points[1, 1], points[2, 2], points[3, 3] = np.nan, np.inf, -np.inf, np.nan
    assert voxel_indices(points, SIZE, RANGE).valid.tolist() == [False, False, False, True]
    assert hard_voxels(points, SIZE, RANGE, 5, 5).num_points.tolist() == [1]


def test_no_points():
    empty = np.zeros((0, 4), np.float32)
    assert hard_voxels(empty, SIZE, RANGE, 3, 9).voxels.shape == (0, 3, 4)
    assert voxel_indices(empty, SIZE, RANGE).coords.shape == (0, 3)


def test_many_points_in_a_large_grid_keep_apart():
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (20000, 3)).astype(np.float32)
    found = hard_voxels(points, [0.01] * 3, [-50, -50, -50, 50, 50, 50], 1, 20000)
    cells = voxel_indices(points, [0.01] * 3, [-50, -50, -50, 50, 50, 50]).coords
    assert len(found.coords) == len(np.unique(cells, axis=0))


@pytest.mark.parametrize(
    ("size", "bounds", "message"),
    [
        ([0.5, 0.5], RANGE, "three sizes above 0"),
        ([0.5, 0.5, 0], RANGE, "three sizes above 0"),
        (SIZE, [0, 0, 0, 1], "six bounds"),
        (SIZE, [0, 0, 0, 1, 1, np.nan], "six bounds"),
        (SIZE, [1, 1, 1, 0, 0, 0], "a grid of"),
        ([1e-9] * 3, RANGE, "a grid of"),
    ],
)
def test_an_unfit_grid_is_named(size, bounds, message):
    with pytest.raises(ConfigError, match=message):
        voxel_indices(np.zeros((1, 3)), size, bounds)


def test_unfit_points_and_limits_are_named():
    with pytest.raises(ConfigError, match="points of shape"):
        hard_voxels(np.zeros((5, 2)), SIZE, RANGE, 1, 1)
    with pytest.raises(ConfigError, match="max_points 0"):
        hard_voxels(np.zeros((5, 3)), SIZE, RANGE, 0, 1)
