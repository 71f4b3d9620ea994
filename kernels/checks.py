"""Checks of a kernel's arguments, made once in the public function; each message begins with the argument's name."""

from collections.abc import Sequence

import torch
from torch import Tensor

from visionseq.errors import KernelArgumentError, KernelError

FLOATS = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))


def check_shape(name: str, tensor: Tensor, expected: Sequence[int]) -> None:
    """Raise `KernelArgumentError` unless the tensor has the expected shape."""
    if tuple(tensor.shape) != tuple(expected):
        raise KernelArgumentError(f"{name}: expected {list(expected)}, got {list(tensor.shape)}")


def check_rank(name: str, tensor: Tensor, layout: str) -> None:
    """Raise `KernelArgumentError` unless the tensor has as many axes as `layout` has letters, as in "B,T,H,K"."""
    if tensor.dim() != len(layout.split(",")):
        raise KernelArgumentError(f"{name}: expected [{layout}], got {list(tensor.shape)}")


def check_tensors(**tensors: Tensor | None) -> None:
    """Raise unless all are floating-point tensors of a supported dtype on one device; absent ones are skipped."""
    first, device = "", None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in FLOATS:
            raise KernelArgumentError(f"{name}: expected float32, float64, bfloat16 or float16, got {tensor.dtype}")
        if device is None:
            first, device = name, tensor.device
        elif tensor.device != device:
            raise KernelArgumentError(f"{name}: expected {device}, the device of {first}, got {tensor.device}")


def check_width(name: str, width: int, widest: int) -> None:
    """Raise `KernelError` where a head has more channels than a Triton kernel holds in registers."""
    if width > widest:
        raise KernelError(
            f"{name}: backend 'triton' takes up to {widest} channels of a head, got {width}; "
            "backend='reference' (or VISIONSEQ_BACKEND=reference) takes any number"
        )


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise `KernelArgumentError` unless the value is one of those allowed."""
    if value not in allowed:
        raise KernelArgumentError(f"{name}: expected one of {list(allowed)}, got {value!r}")


def state_dtype(main: Tensor) -> torch.dtype:
    """States and accumulations are float64 where the main input is, float32 everywhere else."""
    return torch.float64 if main.dtype == torch.float64 else torch.float32
