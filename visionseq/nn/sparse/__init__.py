"""Sparse convolution in plain torch: features at sites of a grid, submanifold and strided, 2D and 3D.

The weights have the layout of spconv 2.x, which is an optional backend on CUDA (see `visionseq.nn.sparse.backend`).
"""

from visionseq.nn.sparse.convolution import SparseConv2d, SparseConv3d, SubMConv2d, SubMConv3d
from visionseq.nn.sparse.tensor import SparseTensor

__all__ = ["SparseConv2d", "SparseConv3d", "SparseTensor", "SubMConv2d", "SubMConv3d"]
