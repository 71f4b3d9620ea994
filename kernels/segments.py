"""Segments of a sequence axis: batched and packed sequences as rows [M] with offsets [N+1], and time reversed in each.

A batch [B, T, ...] is its B * T rows with offsets 0, T, 2T, ...; a packed row [1, T, ...] has the offsets `cu_seqlens`.
The fast kernels know offsets alone. The references run each segment through a plain loop over [B, T, ...].
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from visionseq.errors import KernelArgumentError
from visionseq.kernels.watching import is_unwatched


def count_segments(batch: int, cu_seqlens: Tensor | None) -> int:
    """The number of sequences, hence of states: the batch, or the packed segments."""
    return batch if cu_seqlens is None else cu_seqlens.shape[0] - 1


def row_offsets(main: Tensor, cu_seqlens: Tensor | None) -> Tensor:
    """Offsets [N+1], int64, of the segments among the B * T rows of `main` [B, T, ...]."""
    if cu_seqlens is not None:
        return cu_seqlens.to(device=main.device, dtype=torch.int64)
    batch, length = main.shape[:2]
    if main.device.type == "cpu" and is_unwatched((main,)):
        return _batch_offsets(batch, length)
    return torch.arange(batch + 1, device=main.device) * length


@lru_cache(maxsize=256)
def _batch_offsets(batch: int, length: int) -> Tensor:
    """Kept between calls, which therefore must not write to it."""
    with torch.inference_mode(False):  # autograd may save it
        return torch.arange(batch + 1) * length


def check_cu_seqlens(main: Tensor, cu_seqlens: Tensor | None) -> None:
    """Raise `KernelArgumentError` naming the index that is wrong; inside torch.compile the values cannot be read."""
    if cu_seqlens is None:
        return
    if cu_seqlens.dtype not in (torch.int32, torch.int64) or cu_seqlens.dim() != 1 or len(cu_seqlens) < 1:
        actual = f"{cu_seqlens.dtype} {list(cu_seqlens.shape)}"
        raise KernelArgumentError(f"cu_seqlens: expected int32 or int64 [N+1], got {actual}")
    if main.shape[0] != 1:
        raise KernelArgumentError(f"cu_seqlens: packed sequences need a batch of 1, got {main.shape[0]}")
    if not torch.compiler.is_compiling():
        check_offsets(cu_seqlens.tolist(), main.shape[1], "cu_seqlens")


def check_offsets(values: Sequence[int], rows: int, name: str = "offsets") -> None:
    """Raise `KernelArgumentError` unless the values begin with 0, never fall and end with the number of rows."""
    if values[0] != 0:
        raise KernelArgumentError(f"{name}[0]: expected 0, got {values[0]}")
    for i in range(1, len(values)):
        if values[i] < values[i - 1]:
            raise KernelArgumentError(f"{name}[{i}]: expected at least {values[i - 1]}, got {values[i]}")
    if values[-1] != rows:
        raise KernelArgumentError(f"{name}[{len(values) - 1}]: expected the number of tokens, {rows}, got {values[-1]}")


def run_segments(
    loop: Callable[..., tuple[Any, Any]],
    timed: Sequence[Tensor | None],
    state: Any,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    state_axis: int = 0,
) -> tuple[Any, Any]:
    """Run `loop(*timed, state) -> (outputs, state)` over [B, T, ...] on every segment, in reversed time if asked for.

    Outputs and states are tensors or tuples of tensors; absent timed tensors stay None. `state_axis` is the axis of the
    states that counts sequences.
    """
    if cu_seqlens is None or len(cu_seqlens) == 1:
        return _run_one(loop, timed, state, reverse)
    results = []
    for i, (start, stop) in enumerate(pairwise(cu_seqlens.tolist())):
        part = [None if tensor is None else tensor[:, start:stop] for tensor in timed]
        before = tree_map(partial(torch.narrow, dim=state_axis, start=i, length=1), state)
        results.append(_run_one(loop, part, before, reverse))
    outputs, states = zip(*results, strict=True)
    return tree_map(_cat(1), *outputs), tree_map(_cat(state_axis), *states)


def _run_one(
    loop: Callable[..., tuple[Any, Any]], timed: Sequence[Tensor | None], state: Any, reverse: bool
) -> tuple[Any, Any]:
    if not reverse:
        return loop(*timed, state)
    outputs, final = loop(*(None if tensor is None else tensor.flip(1) for tensor in timed), state)
    return tree_map(lambda output: output.flip(1), outputs), final


def _cat(axis: int) -> Callable[..., Tensor]:
    return lambda *parts: torch.cat(parts, axis)
