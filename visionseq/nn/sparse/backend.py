"""spconv as another backend of the sparse convolutions: on CUDA, if `VISIONSEQ_SPARSE` is `spconv`.

Without the variable the plain torch form is used everywhere.
"""

import logging
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visionseq.errors import KernelError, import_extra
from visionseq.nn.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from visionseq.nn.sparse.convolution import _SparseConvolution

VARIABLE = "VISIONSEQ_SPARSE"
_log = logging.getLogger("visionseq.nn.sparse")


def uses_spconv(features: Tensor) -> bool:
    """True if `VISIONSEQ_SPARSE` is `spconv`; `KernelError` for an unknown value, and where spconv cannot run."""
    name = os.environ.get(VARIABLE, "torch")
    if name not in ("torch", "spconv"):
        raise KernelError(f"{VARIABLE}={name}, expected torch or spconv")
    if name == "torch":
        return False
    if not features.is_cuda:
        raise KernelError(f"{VARIABLE}=spconv: the features are on {features.device}, spconv trains on CUDA only")
    _announce()
    return True


@lru_cache(1)
def _announce() -> None:
    import_extra("spconv", "gpu")
    _log.info("sparse convolutions run on spconv")


def convolve(layer: "_SparseConvolution", x: SparseTensor) -> SparseTensor:
    """The layer computed by spconv with the same parameters."""
    spconv: Any = import_extra("spconv.pytorch", "gpu")
    indices = x.indices.int().contiguous()  # spconv reads memory row by row whatever the strides are
    their_x = spconv.SparseConvTensor(x.features.contiguous(), indices, list(x.spatial_shape), x.batch_size)

    # A layer of spconv that shares our parameters; those it makes itself stay on the meta device.
    kind = f"{'SubM' if layer.submanifold else 'Sparse'}Conv{layer.axes}d"
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    with torch.device("meta"):
        bias = layer.bias is not None
        twin = getattr(spconv, kind)(layer.in_channels, layer.out_channels, *map(list, shape), bias=bias)
    twin.weight = layer.weight
    if layer.bias is not None:
        twin.bias = layer.bias
    twin.train(layer.training)

    their_y = twin(their_x)
    if layer.submanifold:
        return x.with_features(their_y.features)
    return SparseTensor(their_y.features, their_y.indices.long(), tuple(their_y.spatial_shape), x.batch_size)
