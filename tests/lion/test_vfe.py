"""Which points a voxel gets, what the encoder sees of them, and the maximum over a voxel."""

import pytest
import torch

from visionseq.errors import ConfigError, KernelError
from visionseq.lion.vfe import DynamicPillarVFE, DynamicVoxelVFE, voxel_maximum

RANGE, SIZE = [0.0, -4.0, 0.0, 6.0, 4.0, 4.0], [2.0, 4.0, 2.0]


def points_at(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def random_points(count: int, sample: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(sample)
    xyz = torch.rand((count, 3), generator=random) * torch.tensor([6.0, 8.0, 4.0]) - torch.tensor([0.0, 4.0, 0.0])
    return torch.cat([torch.full((count, 1), float(sample)), xyz, torch.rand((count, 1), generator=random)], 1)


def test_a_point_on_the_lower_bound_has_a_voxel_and_one_on_the_upper_has_none():
    vfe = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE)
    assert vfe.spatial_shape == (2, 2, 3)
    rows = [
        (0, 5.9, 3.9, 3.9, 0),
        (0, 0, -4, 0, 1),
        (0, 6, 0, 0, 2),
        (0, 0, 4, 0, 3),
        (0, 0, 0, 4, 4),
        (0, -0.1, 0, 0, 5),
    ]
    kept, voxel_of_point, indices = vfe.group(points_at(*rows))
    assert kept[:, 4].tolist() == [0, 1]
    assert voxel_of_point.tolist() == [1, 0]
    assert indices.tolist() == [[0, 0, 0, 0], [0, 1, 1, 2]]


def test_voxels_are_sorted_by_sample_x_y_z():
    vfe = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE)
    _, _, indices = vfe.group(torch.cat([random_points(60, 1), random_points(60, 0)]))
    order = (indices * torch.tensor([1000, 1, 10, 100])).sum(1)
    assert (order.diff() > 0).all()


def test_a_point_is_seen_relative_to_its_voxels_mean_and_centre():
    points = points_at((0, 1.0, 1.0, 1.0, 0.5), (0, 2.0, 3.0, 1.5, 0.7), (0, 1.5, 2.0, 0.0, 0.9))
    vfe = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE)
    seen = vfe.decorate(*vfe.group(points))
    torch.testing.assert_close(seen[0], torch.tensor([1, 1, 1, 0.5, -0.25, -0.5, 0.5, 0, -1, 0]))
    relative = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE, use_absolute_xyz=False, with_distance=True)
    assert relative.pfn_layers[0].linear.in_features == 8
    torch.testing.assert_close(
        relative.decorate(*relative.group(points))[1], torch.tensor([0.7, 0, 0, 0, -1, 1, 0.5, 3.905125])
    )


def test_a_pillar_takes_every_height():
    vfe = DynamicPillarVFE(4, [8, 8], SIZE, RANGE)
    points = points_at((0, 1.0, 1.0, -50.0, 0), (0, 1.0, 1.0, 70.0, 0))
    kept, voxel_of_point, indices = vfe.group(points)
    assert indices.tolist() == [[0, 0, 1, 0]]
    assert voxel_of_point.tolist() == [0, 0]
    assert vfe.decorate(kept, voxel_of_point, indices)[:, 9].tolist() == [-51, 69]  # from the middle of the lowest cell
    assert vfe(points, 1).spatial_shape == (1, 2, 3)


def test_the_order_of_the_points_does_not_matter():
    vfe, points = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE).eval(), random_points(200)
    shuffled = vfe(points[torch.randperm(200)], 1)
    torch.testing.assert_close(shuffled.features, vfe(points, 1).features)
    assert torch.equal(shuffled.indices, vfe(points, 1).indices)


def test_an_empty_sample_changes_nothing_for_the_others():
    vfe = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE).eval()
    together = vfe(torch.cat([random_points(50, 0), random_points(50, 2)]), 4)
    assert together.counts().tolist()[1::2] == [0, 0]
    alone = vfe(random_points(50, 0), 1)
    assert torch.equal(together.features[: len(alone.features)], alone.features)


def test_of_equal_points_one_alone_gets_the_gradient():
    x = torch.tensor([[1.0], [5.0], [5.0], [2.0]], requires_grad=True)
    voxel_maximum(x, torch.tensor([0, 0, 0, 1]), 2).sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 0, 1]


def test_a_feature_that_is_no_number_stays_in_its_voxel():
    vfe, points = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE).eval(), random_points(100)
    expected = vfe(points, 1)
    points[3, 4] = torch.nan
    found = vfe(points, 1)
    broken = found.features.isnan().any(1)
    assert broken.sum() == 1
    assert torch.equal(found.features[~broken], expected.features[~broken])


def test_a_sample_beyond_the_batch_is_named():
    vfe = DynamicVoxelVFE(4, [8, 8], SIZE, RANGE)
    with pytest.raises(KernelError, match=r"expected 0 <= index < \[2, 2, 2, 3\] \(sample first\)"):
        vfe(random_points(10, 2), 2)


@pytest.mark.parametrize(("features", "filters"), [(2, [8, 8]), (4, []), (4, [7, 8])])
def test_layers_that_cannot_be_are_refused(features, filters):
    with pytest.raises(ConfigError, match="vfe: "):
        DynamicVoxelVFE(features, filters, SIZE, RANGE)
