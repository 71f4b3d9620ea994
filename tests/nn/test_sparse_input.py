"""Sparse tensors and layers that do not fit are refused by name, and no site is read beyond the grid."""

import pytest
import torch
from sparse_grids import grid_of

from visionseq.errors import KernelError
from visionseq.nn.sparse import SparseConv3d, SparseTensor, SubMConv2d, SubMConv3d
from visionseq.nn.sparse.neighbours import _search_cpu, _search_sorted

SHAPE = (2, 3, 4)


def tensor_at(*sites: tuple[int, ...], batch: int = 2) -> SparseTensor:
    return SparseTensor(torch.ones(len(sites), 3), torch.tensor(sites), SHAPE, batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SubMConv3d(3, 4, 3, stride=2), "stride 2"),
        (lambda: SubMConv3d(3, 4, (3, 3)), "expected one number or 3"),
        (lambda: SubMConv3d(9, 4, 3).double()(grid_of(3, 3, 0)), "3 channels on 3 axes, expected 9"),
        (lambda: SubMConv2d(3, 4, 3).double()(grid_of(3, 3, 0)), "expected 3 channels on 2 axes"),
        (lambda: SparseTensor(torch.zeros(4, 2), torch.zeros(4, 3), (2, 2, 2), 1), r"indices \[4, 3\]"),
        (lambda: SparseTensor(torch.zeros(4, 2), torch.zeros(4, 4), (2, 2, 2), 1), "torch.float32, expected integers"),
        (lambda: SparseTensor(torch.zeros(0, 2), torch.zeros(0, 4).long(), (2**21,) * 3, 1), "fewer than 2\\^63"),
        (lambda: tensor_at((0, 0, 0, 4)), r"to \[0, 0, 0, 4\], expected 0 <= index < \[2, 2, 3, 4\]"),
        (lambda: tensor_at((0, 0, 0, 0), (0, 0, -1, 0)), r"indices: from \[0, 0, -1, 0\]"),
        (lambda: tensor_at((2, 0, 0, 0)), r"to \[2, 0, 0, 0\], expected 0 <= index < \[2, "),
        (lambda: tensor_at((0, 0, 0, 0)).with_features(torch.ones(2, 3)), r"features: \[2, 3\], expected \[1, C\]"),
        (lambda: SubMConv3d(3, 4, 3)(tensor_at((0, 1, 2, 3), (0, 0, 0, 0), (0, 1, 2, 3))), r"\[0, 1, 2, 3\].*twice"),
    ],
)
def test_input_of_a_wrong_form_is_named(make, message):
    with pytest.raises(KernelError, match=message):
        make()


@pytest.mark.parametrize("search", [_search_cpu, _search_sorted])
def test_a_site_that_occurs_twice_is_named(search):
    x = tensor_at((0, 1, 2, 3), (1, 1, 2, 3), (0, 0, 0, 0), (1, 1, 2, 3))
    with pytest.raises(KernelError, match=r"site \[1, 1, 2, 3\] \(sample first\) occurs twice"):
        search(x.indices, SHAPE, [(0, 0, 1)])


@pytest.mark.parametrize(
    "ends", [((0, 0, 0, 3), (0, 0, 1, 0)), ((0, 0, 2, 3), (0, 1, 0, 0)), ((0, 1, 2, 3), (1, 0, 0, 0))]
)
def test_the_end_of_a_row_layer_or_sample_is_no_neighbour_of_the_next(ends):
    layer = SubMConv3d(3, 1, 3, bias=False)
    torch.nn.init.ones_(layer.weight)
    assert layer(tensor_at(*ends)).features.flatten().tolist() == [3.0, 3.0]  # each sees itself alone
    for search in (_search_cpu, _search_sorted):
        assert not any(len(seen) for seen, _ in search(tensor_at(*ends).indices, SHAPE, [(0, 0, 1), (0, 1, -1)]))


def test_layers_share_what_they_know_of_the_sites():
    x = grid_of(3, 3, 2)
    first, second, wide = (SubMConv3d(3, 3, 3, dilation=d).double() for d in (1, 1, 2))
    y = wide(second(first(x)))
    assert y.cache is x.cache
    assert len(x.cache) == 2  # one for each dilation
    alone = SparseTensor(first(x).features, x.indices, x.spatial_shape, 2)
    torch.testing.assert_close(second(alone).features, second(first(x)).features)


def test_one_site_and_none():
    for x in (tensor_at((1, 1, 1, 1)), SparseTensor(torch.ones(0, 3), torch.zeros(0, 4).long(), SHAPE, 2)):
        assert SubMConv3d(3, 5, 3)(x).features.shape == (len(x.features), 5)
        y = SparseConv3d(3, 5, 3, 2, 1)(x)
        assert y.dense().shape == (2, 5, 1, 2, 2)
        assert x.counts().tolist() == [0, len(x.features)]
