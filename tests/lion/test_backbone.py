"""Both 3D backbones around a plugged-in operator, merging's bounds, and the 2D backbones' shapes."""

import pytest
import torch
from tiny_network import Decay, sample_of, scattered

from visionseq.errors import ConfigError
from visionseq.lion.backbone import LION3DBackboneOneStride, LION3DBackboneOneStride_Sparse
from visionseq.lion.bev import BaseBEVBackbone, BaseBEVResBackbone, height_compression
from visionseq.lion.merge import PatchMerging3D
from visionseq.nn.sparse import SparseTensor

SHAPE = (32, 12, 8)
BACKBONES = [LION3DBackboneOneStride, LION3DBackboneOneStride_Sparse]


def backbone(kind=LION3DBackboneOneStride, **changes):
    torch.manual_seed(0)
    return kind(4, Decay, ((5, 5, 32), (5, 5, 16), (5, 5, 8), (5, 5, 4)), (32, 16, 16, 8), **changes).double()


@pytest.mark.parametrize(("kind", "blocks"), [(BACKBONES[0], 34), (BACKBONES[1], 40)])
def test_operators_know_their_place_in_the_network(kind, blocks):
    places = [module.place for module in backbone(kind).modules() if isinstance(module, Decay)]
    assert sorted(places) == [(i, blocks) for i in range(blocks)]


def test_height_is_halved_four_times_and_the_map_keeps_its_size():
    found = backbone()(scattered([40, 25], SHAPE))
    assert found.spatial_shape == (2, 12, 8)
    assert height_compression(found).shape == (2, 4 * 2, 12, 8)
    assert backbone(LION3DBackboneOneStride_Sparse)(scattered([40, 25], SHAPE)).spatial_shape == (12, 8)


def test_the_map_holds_channel_by_channel_the_cells_of_a_column():
    x = SparseTensor(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]]), (2, 3, 4), 1)
    assert height_compression(x)[0, :, 1, 2].tolist() == [1, 3, 2, 4]


@pytest.mark.parametrize("kind", BACKBONES)
def test_an_empty_sample_changes_nothing_for_the_others(kind):
    network, x = backbone(kind).eval(), scattered([40, 0, 1, 25, 0], SHAPE)
    together = network(x)
    assert together.batch_size == 5
    assert together.counts()[[1, 4]].tolist() == [0, 0]
    for sample in (0, 2, 3):
        found, alone = sample_of(together, sample), network(sample_of(x, sample))
        assert torch.equal(found.indices, alone.indices)
        torch.testing.assert_close(found.features, alone.features)


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("counts", [[0], [0, 0], [1], [0, 1]])
def test_one_voxel_or_none_in_all(kind, counts):
    network, x = backbone(kind).train(), scattered(counts, SHAPE)
    found = network(x)
    dense = found.dense()
    assert dense.shape[0] == len(counts)
    assert dense.isfinite().all()
    assert len(found.features) > 0 if sum(counts) else not dense.any()
    dense.sum().backward()


def test_generation_adds_voxels_and_no_others_change_their_cell():
    x = scattered([60], SHAPE)
    with_it, without = (backbone(diffusion=given).eval()(x) for given in (True, False))
    assert len(with_it.features) > len(without.features)
    assert {tuple(site) for site in without.indices.tolist()} <= {tuple(site) for site in with_it.indices.tolist()}


def test_a_cell_of_generated_voxels_alone_has_the_norms_bias():
    merge = PatchMerging3D(4, (1, 1, 2), diffusion=True, diff_scale=1.0).double()
    torch.nn.init.normal_(merge.norm.bias)
    middle = SparseTensor(torch.ones(1, 4, dtype=torch.float64), torch.tensor([[0, 5, 6, 4]]), SHAPE, 1)
    found, coarse = merge(middle)
    assert found.indices.tolist() == [[0, 2, 5, 3], [0, 2, 7, 3], [0, 2, 6, 4], [0, 2, 5, 5], [0, 2, 7, 5]]
    assert coarse.tolist() == [2]
    assert torch.equal(found.features[[0, 1, 3, 4]], merge.norm.bias.expand(4, -1))
    corner = SparseTensor(torch.ones(1, 4, dtype=torch.float64), torch.tensor([[0, 0, 0, 0]]), SHAPE, 1)
    assert merge(corner).tensor.indices.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: backbone()(scattered([5], (30, 12, 8))),
            r"grid \(30, 12, 8\) .*multiples of \(32, 4, 4\)",
        ),
        (lambda: backbone()(scattered([5], (32, 12, 6))), r"grid \(32, 12, 6\)"),
        (lambda: backbone(layer_down_scales=(((2, 2, 2),) * 2,) * 3), "four blocks"),
        (lambda: backbone(LION3DBackboneOneStride_Sparse)(scattered([5], (64, 12, 8))), "2 cells of height are left"),
        (lambda: backbone(depths=(2, 2, 2)), "depths.*expected 4"),
        (lambda: backbone(diff_scale=1.5), "diff_scale 1.5"),
        (lambda: PatchMerging3D(4, (2, 2)), r"down_scale: \(2, 2\)"),
        (lambda: BaseBEVBackbone(4, [1], [1], [4], [1.5], [4]), r"upsample_strides \[1.5\]"),
        (lambda: BaseBEVBackbone(4, [1, 1], [1], [4], [1], [4]), "one entry for each level"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("kind", [BaseBEVBackbone, BaseBEVResBackbone])
@pytest.mark.parametrize(("ups", "size"), [([1, 2, 4], (24, 16)), ([0.5, 1, 2], (12, 8)), ([0.25, 0.5, 1], (6, 4))])
def test_levels_meet_at_one_resolution(kind, ups, size):
    network = kind(6, [1, 0, 2], [1, 2, 2], [4, 5, 6], ups, [3, 4, 5])
    assert network(torch.randn(2, 6, 24, 16)).shape == (2, 12, *size)
    assert network.num_bev_features == 12
