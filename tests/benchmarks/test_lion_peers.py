"""The peers of LION's benchmark compute what ours computes."""

import numpy as np
import pytest
import torch

from visionseq.benchmarks import lion
from visionseq.benchmarks.lion import measure, peers
from visionseq.data.voxels import hard_voxels
from visionseq.geometry import bev_iou


def boxes(count: int) -> torch.Tensor:
    return torch.from_numpy(measure._boxes(np.random.default_rng(0), count, 12.0))


def test_overlaps():
    expected = bev_iou(boxes(40), boxes(30))
    torch.testing.assert_close(peers.vectorised_iou(boxes(40), boxes(30)), expected)
    pytest.importorskip("shapely")
    np.testing.assert_allclose(peers.shapely_iou(boxes(40).numpy(), boxes(30).numpy()), expected.numpy(), atol=1e-9)


def test_voxels():
    points = np.random.default_rng(0).uniform(-4, 4, (2000, 4)).astype(np.float32)
    size, limits = (0.5, 0.5, 0.5), (-3, -3, -3, 3, 3, 3)
    ours, theirs = hard_voxels(points, size, limits, 3, 500), peers.dictionary_voxels(points, size, limits, 3, 500)
    assert len(ours.voxels) == len(theirs)
    for voxel, place, count, (key, own) in zip(ours.voxels, ours.coords, ours.num_points, theirs.items(), strict=True):
        assert tuple(place[::-1]) == key
        assert np.array_equal(voxel[:count], np.array(own))


def test_sections_run_on_something_small(monkeypatch):
    monkeypatch.setattr(measure, "COUNTS", (200, 400))
    monkeypatch.setattr(measure, "FRAMES", 5)
    found = {name: section("cpu", 1) for name, section in lion.sections().items() if name != "stages"}
    assert found["scaling"]["seconds"].keys() == {200, 400}
    assert found["voxels"]["speed_up"]["dictionary loop"] > 0
    assert found["evaluation"]["frames"] == 5
