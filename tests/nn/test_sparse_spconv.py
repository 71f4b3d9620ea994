"""spconv as a backend: where it may serve, and that it gives our values."""

import pytest
import torch
from sparse_grids import grid_of

from visionseq.errors import KernelError
from visionseq.nn.sparse import SparseConv2d, SparseConv3d, SparseTensor, SubMConv2d, SubMConv3d, backend


def layers() -> list:
    return [
        SubMConv3d(3, 4, 3),
        SubMConv3d(3, 4, (1, 3, 3), dilation=2, bias=False),
        SubMConv2d(3, 4, 3, bias=False),
        SparseConv3d(3, 4, 3, 2, 1, bias=False),
        SparseConv3d(3, 4, (3, 1, 1), (2, 1, 1), bias=False),
        SparseConv2d(3, 4, 3, 2, bias=False),
    ]


def single(axes: int, device: str = "cpu") -> SparseTensor:
    x = grid_of(axes, 3, 0)
    return SparseTensor(x.features.float().to(device), x.indices.to(device), x.spatial_shape, 2)


def check_equal(found: SparseTensor, expected: SparseTensor) -> None:
    a, b = found.keys().argsort(), expected.keys().argsort()
    assert torch.equal(found.indices[a], expected.indices[b])
    assert found.spatial_shape == expected.spatial_shape
    torch.testing.assert_close(found.features[a], expected.features[b], atol=1e-4, rtol=1e-4)


def test_spconv_must_be_there_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("VISIONSEQ_SPARSE", "spconv")
    with pytest.raises(KernelError, match="features are on cpu"):
        SubMConv3d(3, 4, 3)(single(3))
    monkeypatch.setenv("VISIONSEQ_SPARSE", "other")
    with pytest.raises(KernelError, match="expected torch or spconv"):
        SubMConv3d(3, 4, 3)(single(3))


@pytest.mark.parametrize("layer", layers(), ids=repr)
def test_spconv_on_the_cpu_gives_our_values(layer):
    pytest.importorskip("spconv")
    x = single(layer.axes)
    strided = x.indices.T.contiguous().T  # as `nonzero` gives them; spconv itself does not look at strides
    with torch.no_grad():
        check_equal(backend.convolve(layer, SparseTensor(x.features, strided, x.spatial_shape, 2)), layer(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="spconv trains on CUDA")
@pytest.mark.parametrize("layer", layers(), ids=repr)
def test_spconv_on_cuda_gives_our_values_and_gradients(layer, monkeypatch):
    pytest.importorskip("spconv")
    layer, x = layer.cuda(), single(layer.axes, "cuda")
    x.features.requires_grad_()
    found = []
    for name in ("torch", "spconv"):
        monkeypatch.setenv("VISIONSEQ_SPARSE", name)
        y = layer(x)
        gradients = torch.autograd.grad(y.features.square().sum(), [x.features, *layer.parameters()])
        found.append((y, gradients))
    (ours, our_gradients), (theirs, their_gradients) = found
    check_equal(theirs, ours)
    torch.testing.assert_close(their_gradients, our_gradients, atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="spconv trains on CUDA")
def test_no_site_needs_no_spconv(monkeypatch):
    pytest.importorskip("spconv")
    monkeypatch.setenv("VISIONSEQ_SPARSE", "spconv")
    empty = SparseTensor(torch.ones(0, 3).cuda(), torch.zeros(0, 4).long().cuda(), (4, 4, 4), 2)
    assert SparseConv3d(3, 5, 3, 2, 1).cuda()(empty).dense().shape == (2, 5, 2, 2, 2)
