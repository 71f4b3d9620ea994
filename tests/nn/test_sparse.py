"""Sparse convolutions against dense ones, and what must not change them."""

import math

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_grids import grid_of

from visionseq.nn.sparse import SparseConv2d, SparseConv3d, SparseTensor, SubMConv2d, SubMConv3d
from visionseq.nn.sparse.neighbours import _search_cpu, _search_sorted


def dense_of(layer, x: SparseTensor, **options) -> torch.Tensor:
    weight = layer.weight.movedim(-1, 1)
    return (F.conv2d if layer.axes == 2 else F.conv3d)(x.dense(), weight, layer.bias, **options)


def at_sites(dense: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return dense.movedim(1, -1)[tuple(indices.T)]


@settings(max_examples=25)
@given(st.sampled_from([2, 3]), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.integers(0, 10_000))
def test_a_submanifold_convolution_is_the_dense_one_at_the_sites(axes, kernel, dilation, seed):
    x = grid_of(axes, 3, seed)
    x.features.requires_grad_()
    layer = (SubMConv2d if axes == 2 else SubMConv3d)(3, 4, kernel, dilation=dilation).double()
    expected = at_sites(dense_of(layer, x, padding=dilation * (kernel // 2), dilation=dilation), x.indices)
    if kernel == 1:  # whose weight is viewed, not transposed
        expected = x.features @ layer.weight.view(3, 4) + layer.bias
    parameters = [x.features, layer.weight, layer.bias]
    wanted = torch.autograd.grad(expected.square().sum(), parameters)
    found = layer(x)
    torch.testing.assert_close(found.features, expected)
    assert torch.equal(found.indices, x.indices)
    torch.testing.assert_close(torch.autograd.grad(found.features.square().sum(), parameters), wanted)


@settings(max_examples=25)
@given(st.sampled_from([2, 3]), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(0, 10_000))
def test_a_strided_convolution_is_the_dense_one_where_input_reaches(axes, kernel, stride, padding, seed):
    x = grid_of(axes, 3, seed)
    layer = (SparseConv2d if axes == 2 else SparseConv3d)(3, 4, kernel, stride, padding, bias=False).double()
    options = {"stride": stride, "padding": padding}
    if kernel == stride == 1 and not padding:
        return
    found = layer(x)
    torch.testing.assert_close(at_sites(dense_of(layer, x, **options), found.indices), found.features)
    reached = dense_of(_ones(layer), x.with_features(torch.ones_like(x.features)), **options)[:, :1] > 0
    assert torch.equal(found.indices, reached[:, 0].nonzero())


def _ones(layer):
    twin = type(layer)(3, 1, layer.kernel_size, layer.stride, layer.padding, bias=False).double()
    torch.nn.init.ones_(twin.weight)
    return twin


def test_the_order_of_the_rows_is_kept():
    x = grid_of(3, 3, 0)
    layer = SubMConv3d(3, 4, 3).double()
    order = torch.randperm(len(x.features))
    shuffled = SparseTensor(x.features[order], x.indices[order], x.spatial_shape, 2)
    torch.testing.assert_close(layer(shuffled).features, layer(x).features[order])


def test_samples_do_not_see_each_other_and_may_be_empty():
    x = grid_of(3, 3, 1, batch=3)
    layer = SubMConv3d(3, 4, 3).double()
    alone = x.indices[:, 0] == 2
    indices = x.indices[alone].clone()
    single = SparseTensor(x.features[alone], indices, x.spatial_shape, 3)
    torch.testing.assert_close(layer(single).features, layer(x).features[alone])
    assert single.counts().tolist()[:2] == [0, 0]
    empty = SparseTensor(x.features[:0], x.indices[:0], x.spatial_shape, 3)
    assert layer(empty).features.shape == (0, 4)
    assert SparseConv3d(3, 4, 3, 2).double()(empty).features.shape == (0, 4)
    assert not empty.dense().any()


def test_a_submanifold_kernel_of_one_element_is_viewed_whatever_its_padding():
    x = grid_of(2, 2, 3)
    layer = SubMConv2d(2, 3, 1, padding=1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).view(3, 1, 1, 2))
    first, second = x.features.T
    expected = torch.stack(
        [3 * second, first + 4 * second, 2 * first + 5 * second], 1
    )  # the weight is [[0 1 2], [3 4 5]]
    torch.testing.assert_close(layer(x).features, expected)


def test_half_precision_around_a_convolution_does_not_reach_its_sums():
    x = grid_of(3, 3, 4)
    x = x.with_features(x.features.float().requires_grad_())
    for layer in (SubMConv3d(3, 4, 3), SparseConv3d(3, 4, 3, 2)):
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x).features
        assert torch.equal(found, layer(x).features)
        found.square().sum().backward()
        assert layer.weight.grad.isfinite().all()


def test_start_values_are_bounded_by_the_fan_in():
    layer = SubMConv3d(5, 7, 3)
    bound = 1 / math.sqrt(5 * 27)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.abs().max() > 0.9 * bound
    assert layer.bias.abs().max() <= bound


@settings(max_examples=20)
@given(st.sampled_from([2, 3]), st.integers(0, 10_000))
def test_both_searches_find_the_same_neighbours(axes, seed):
    x = grid_of(axes, 1, seed, share=0.5)
    steps = [
        tuple(row) for row in torch.randint(-2, 3, (6, axes), generator=torch.Generator().manual_seed(seed)).tolist()
    ]
    for a, b in zip(*(s(x.indices, x.spatial_shape, steps) for s in (_search_cpu, _search_sorted)), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
