"""Submanifold and strided sparse convolutions, with the weight layout of spconv 2.x: [C_out, *kernel, C_in].

The values are those of a dense cross-correlation of the zero-filled grid, at the output sites. With a kernel of one
element spconv multiplies by the weight's memory *viewed* as [C_in, C_out], which is not its transpose; trained weights
depend on it, so this module does the same. An `nn.Linear` with the weight `weight.reshape(C_in, C_out).T` gives equal
values.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from visionseq.errors import KernelError
from visionseq.nn.sparse import backend
from visionseq.nn.sparse.neighbours import Pairs, RuleBook, strided_rules, submanifold_rules
from visionseq.nn.sparse.tensor import SparseTensor


class _SparseConvolution(nn.Module):
    """Base of the four convolutions.

    Args:
        in_channels, out_channels: columns of the features.
        kernel_size, stride, padding, dilation: one number, or one for each axis (z, y, x).
        bias: add a learned vector at the output sites.
        indice_key: layers of one tensor with the same key, kernel and dilation share the table of neighbours.
    """

    axes: int
    submanifold: bool

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        bias: bool = True,
        indice_key: str | None = None,
    ):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = self._per_axis("kernel_size", kernel_size), self._per_axis("stride", stride)
        self.padding, self.dilation = self._per_axis("padding", padding), self._per_axis("dilation", dilation)
        if self.submanifold and set(self.stride) != {1}:
            raise KernelError(f"stride {stride}: a submanifold convolution keeps its sites, expected 1")
        self.indice_key = indice_key
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel_size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(C_in * elements of the kernel)."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features [V, C_in] -> [V', C_out]; V' = V and the same rows where submanifold."""
        # Check channels and axes.
        if x.features.shape[1] != self.in_channels or len(x.spatial_shape) != self.axes:
            actual = f"{x.features.shape[1]} channels on {len(x.spatial_shape)} axes"
            raise KernelError(f"x: {actual}, expected {self.in_channels} channels on {self.axes} axes")

        # A kernel of one element is a matrix product; the weight is viewed, not transposed.
        if math.prod(self.kernel_size) == 1 and set(self.stride) == {1} and (self.submanifold or not any(self.padding)):
            return x.with_features(self._with_bias(x.features @ self.weight.view(self.in_channels, self.out_channels)))

        # Otherwise gather the neighbours of each site, at the same sites or at those that the stride reaches.
        if backend.uses_spconv(x.features) and len(x.features):
            return backend.convolve(self, x)
        if self.submanifold:
            rules = self._submanifold_rules(x)
            return x.with_features(self._with_bias(self._gathered(x.features, rules)))
        arguments = (self.kernel_size, self.stride, self.padding, self.dilation)
        rules, indices, shape = strided_rules(x.indices, x.spatial_shape, *arguments)
        features = self._with_bias(self._gathered(x.features, rules))
        return SparseTensor(features, indices, shape, x.batch_size)

    def _submanifold_rules(self, x: SparseTensor) -> RuleBook:
        """The rule book of these sites, from the cache that layers with the same kernel and dilation share."""
        key = (self.kernel_size, self.dilation)
        if key not in x.cache:
            x.cache[key] = submanifold_rules(x.indices, x.spatial_shape, *key)
        return x.cache[key]

    def _gathered(self, features: Tensor, rules: RuleBook) -> Tensor:
        """[V', C_out]: the sum over the kernel's elements, in the dtype of the weight."""
        weight = self.weight.flatten(1, -2).permute(1, 2, 0)  # [K, C_in, C_out]
        with torch.autocast(features.device.type, enabled=False):  # sums over many elements stay in the weight's dtype
            return _GatherMultiplyAdd.apply(features.to(weight.dtype), weight, rules.pairs, rules.outputs)

    def _with_bias(self, features: Tensor) -> Tensor:
        return features if self.bias is None else features + self.bias

    def _per_axis(self, name: str, value: int | tuple[int, ...]) -> tuple[int, ...]:
        values = (value,) * self.axes if isinstance(value, int) else tuple(value)
        if len(values) != self.axes:
            raise KernelError(f"{name} {value}: expected one number or {self.axes}, one for each axis")
        return values

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class SubMConv2d(_SparseConvolution):
    """Submanifold convolution on (y, x): output sites are the input sites, in their order. `padding` has no effect."""

    axes, submanifold = 2, True


class SubMConv3d(_SparseConvolution):
    """Submanifold convolution on (z, y, x): output sites are the input sites, in their order."""

    axes, submanifold = 3, True


class SparseConv2d(_SparseConvolution):
    """Strided convolution on (y, x); output sites are those that an input site reaches, in lexicographic order."""

    axes, submanifold = 2, False


class SparseConv3d(_SparseConvolution):
    """Strided convolution on (z, y, x); output sites are those that an input site reaches, in lexicographic order."""

    axes, submanifold = 3, False


class _GatherMultiplyAdd(torch.autograd.Function):
    """out[outputs_k] += x[inputs_k] @ W_k over the kernel's elements; the gathered rows are not kept."""

    @staticmethod
    def forward(ctx: Any, x_VC: Tensor, weight_KCD: Tensor, pairs: list[Pairs], outputs: int) -> Tensor:
        ctx.save_for_backward(x_VC, weight_KCD)
        ctx.pairs = pairs
        # The centre of a submanifold kernel takes all rows in order: a plain product.
        centre = next((k for k, (inputs, rows) in enumerate(pairs) if inputs is rows), None)
        out = x_VC.new_zeros((outputs, weight_KCD.shape[2])) if centre is None else x_VC @ weight_KCD[centre]

        # Add the other elements of the kernel.
        for k, (weight, (inputs, rows)) in enumerate(zip(weight_KCD, pairs, strict=True)):
            if k != centre and len(inputs):
                out.index_add_(0, rows, x_VC.index_select(0, inputs) @ weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_VD: Tensor) -> tuple[Tensor | None, ...]:
        x_VC, weight_KCD = ctx.saved_tensors
        grad_x = torch.zeros_like(x_VC) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight_KCD, memory_format=torch.contiguous_format)
        for k, (inputs, rows) in enumerate(ctx.pairs):
            if not len(inputs):
                continue
            grad = grad_VD if inputs is rows else grad_VD.index_select(0, rows)
            x = x_VC if inputs is rows else x_VC.index_select(0, inputs)
            grad_weight[k] = x.T @ grad
            if grad_x is not None:
                grad_x.index_add_(0, inputs, grad @ weight_KCD[k].T)
        return grad_x, grad_weight, None, None
