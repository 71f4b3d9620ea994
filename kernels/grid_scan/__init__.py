"""Source-transition-mark recurrence on a two-dimensional grid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_choice, check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.grid_scan import reference
from visionseq.kernels.grid_scan.layout import with_zeros
from visionseq.kernels.grid_scan.registration import operator
from visionseq.kernels.serving import serving_backend


@without_autocast
def grid_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    source_r: Tensor,
    source_d: Tensor,
    t_rl: Tensor,
    t_ru: Tensor | None,
    t_dl: Tensor | None,
    t_du: Tensor,
    mark_l: Tensor,
    mark_u: Tensor,
    direct: Tensor | None = None,
    *,
    initial_left: Tensor | None = None,
    initial_top: Tensor | None = None,
    directions: int = 1,
    scale: float | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """A linear recurrence over the edges of a grid, from one corner or from all four.

    With l = R[x-1, y] and u = D[x, y-1], the states of the edges that enter node (x, y), and its gates:

        y[x, y] = scale (q (mark_l l + mark_u u) + direct (q . k) v)
        R[x, y] = t_rl l + t_ru u + source_r k v^T        the edge to (x+1, y), "right"
        D[x, y] = t_dl l + t_du u + source_d k v^T        the edge to (x, y+1), "down"

    A transition is named by the edge it leads to and the edge it comes from. A node with sources of zero writes
    nothing. To crop a padded grid, slice the arguments: strided views are taken as they are.

    Args:
        q: [B, X, Y, H, K].
        k: [B, X, Y, H, K].
        v: [B, X, Y, H, V].
        source_r: [B, X, Y, H], or [B, X, Y, H, 4] with four directions, as the following gates.
        source_d: as source_r.
        t_rl: from the left to the right, as source_r.
        t_ru: from above to the right; None is zero. Without one of the two turns no more than one path joins two edges,
            and transitions of 1 do not let the states grow.
        t_dl: from the left down; None is zero.
        t_du: from above down.
        mark_l: as source_r.
        mark_u: as source_r.
        direct: [B, X, Y, H], added once for all directions; None is zero.
        initial_left: states [B, Y, H, K, V] that enter at x = 0, zero if not given; with one direction only.
        initial_top: states [B, X, H, K, V] that enter at y = 0, zero if not given; with one direction only.
        directions: 1, or 4: the scans of the grid as it is, flipped in x, in y and in both, flipped back and added.
        scale: of the output, K^-0.5 if not given.
        backend: "auto", "reference", "cpu" or "triton" (for K up to 1024).

    Returns:
        y [B, X, Y, H, V] in the dtype of v, and the states that leave the grid in float32 (float64 where v is): right
        [B, Y, H, K, V] at x = X-1 and bottom [B, X, H, K, V] at y = Y-1. With four directions these are None.

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: pLSTM, arXiv 2506.11997.
    """
    # the arguments
    gates: tuple[Tensor | None, ...] = (source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u)
    _check(q, k, v, gates, direct, initial_left, initial_top, directions)
    scale = q.shape[-1] ** -0.5 if scale is None else scale

    # the definition
    nodes = q.shape[1] * q.shape[2]
    chosen = serving_backend("grid_scan", v, backend, nodes if directions == 1 else None)
    if chosen == "reference":
        return _reference(q, k, v, gates, direct, initial_left, initial_top, directions, scale)

    # the kernels, which take gates with an axis of directions
    if directions == 1:
        gates = tuple(None if gate is None else gate.unsqueeze(-1) for gate in gates)
    borders = (None if state is None else state.float() for state in (initial_left, initial_top))
    y, right, bottom = operator(q, k, v, *gates, direct, *borders, scale, chosen)
    return (y, right, bottom) if directions == 1 else (y, None, None)


@without_autocast
def grid_scan_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    source_r: Tensor,
    source_d: Tensor,
    t_rl: Tensor,
    t_ru: Tensor | None,
    t_dl: Tensor | None,
    t_du: Tensor,
    mark_l: Tensor,
    mark_u: Tensor,
    direct: Tensor | None = None,
    *,
    left: Tensor,
    up: Tensor,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One node of `grid_scan`: q, k [B, H, K], v [B, H, V], gates [B, H], states [B, H, K, V] -> (y, right, down)."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    gates = _present((source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u), left.dtype)
    q, k, values = (tensor.to(left.dtype) for tensor in (q, k, v))
    y, right, down = reference.node(q, k, values, *gates, left=left, up=up)
    if direct is not None:
        y = y + reference.direct_term(q, k, values, direct.to(left.dtype))
    return (scale * y).to(v.dtype), right, down


GATES = ("source_r", "source_d", "t_rl", "t_ru", "t_dl", "t_du", "mark_l", "mark_u")


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Sequence[Tensor | None],
    direct: Tensor | None,
    initial_left: Tensor | None,
    initial_top: Tensor | None,
    directions: int,
) -> None:
    named = dict(zip(GATES, gates, strict=True))
    borders = {"initial_left": initial_left, "initial_top": initial_top}
    check_tensors(q=q, k=k, v=v, **named, direct=direct, **borders)
    check_choice("directions", directions, (1, 4))
    check_rank("q", q, "B,X,Y,H,K")
    check_shape("k", k, q.shape)
    check_rank("v", v, "B,X,Y,H,V")
    check_shape("v", v, (*q.shape[:-1], v.shape[-1]))
    for name, gate in named.items():
        if gate is not None:
            check_shape(name, gate, q.shape[:-1] if directions == 1 else (*q.shape[:-1], directions))
    if direct is not None:
        check_shape("direct", direct, q.shape[:-1])
    batch, x, y, *state = (*q.shape, v.shape[-1])
    for (name, border), count in zip(borders.items(), (y, x), strict=True):
        if border is not None and directions != 1:
            raise KernelArgumentError(f"{name}: expected None with four directions, got {list(border.shape)}")
        if border is not None:
            check_shape(name, border, (batch, count, *state))


def _reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Sequence[Tensor | None],
    direct: Tensor | None,
    initial_left: Tensor | None,
    initial_top: Tensor | None,
    directions: int,
    scale: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    dtype = state_dtype(v)
    q, k, values = (tensor.to(dtype) for tensor in (q, k, v))
    present = _present(gates, dtype)
    batch, x, y, *state = (*q.shape, v.shape[-1])
    right = bottom = None
    if directions == 1:
        left, top = (
            v.new_zeros(batch, count, *state, dtype=dtype) if border is None else border.to(dtype)
            for border, count in ((initial_left, y), (initial_top, x))
        )
        output, right, bottom = reference.grid_scan(q, k, values, present, left, top)
    else:
        output = reference.four_directions(q, k, values, present)
    if direct is not None:
        output = output + reference.direct_term(q, k, values, direct.to(dtype))
    return (scale * output).to(v.dtype), right, bottom


def _present(gates: Sequence[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    """The gates in one dtype, with zeros for the absent turns."""
    return [gate.to(dtype) for gate in with_zeros(gates)]
