"""Which input site contributes to which output site under which element of the kernel.

A rule book is a list over the kernel's elements (the last axis fastest) of pairs (input rows, output rows). Within one
element no row occurs twice on either side, so adding its contributions is deterministic.

Legend: V sites, D axes.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visionseq.nn.sparse.tensor import occurs_twice, site_keys

Pairs = tuple[Tensor, Tensor]
Axes = tuple[int, ...]


class RuleBook(NamedTuple):
    """Fields: `pairs` for each element of the kernel, `outputs` the number of output sites."""

    pairs: list[Pairs]
    outputs: int


def submanifold_rules(indices: Tensor, spatial_shape: Axes, kernel_size: Axes, dilation: Axes) -> RuleBook:
    """out[p] takes in[p + (k - kernel // 2) * dilation] wherever that is a site; the output sites are the input's."""
    rows = torch.arange(len(indices), device=indices.device)
    steps = [
        tuple((k - size // 2) * d for k, size, d in zip(element, kernel_size, dilation, strict=True))
        for element in itertools.product(*map(range, kernel_size))
    ]

    # If q lies a step away from p, then p lies the opposite step away from q: search one of each two steps.
    searched: list[Axes] = []
    for step in steps:
        if any(step) and tuple(-s for s in step) not in searched:
            searched.append(step)

    pairs: dict[Axes, Pairs] = {}
    search = _search_cpu if indices.device.type == "cpu" else _search_sorted
    for step, (neighbours, sites) in zip(searched, search(indices, spatial_shape, searched), strict=True):
        pairs[step] = (neighbours, sites)
        pairs[tuple(-s for s in step)] = (sites, neighbours)
    return RuleBook([pairs[step] if any(step) else (rows, rows) for step in steps], len(rows))


def _search_cpu(indices: Tensor, spatial_shape: Axes, steps: list[Axes]) -> list[Pairs]:
    """Pairs of each step (rows of neighbours, rows of sites), by a hash table."""
    from visionseq.nn.sparse.search import neighbour_pairs

    if not steps:
        return []
    keys, places = site_keys(indices, spatial_shape).numpy(), indices.contiguous().numpy()
    arguments = (places, keys, spatial_shape, np.array(steps, np.int64), np.array(_strides(spatial_shape), np.int64))
    return [
        (torch.from_numpy(neighbours), torch.from_numpy(sites)) for neighbours, sites in neighbour_pairs(*arguments)
    ]


def _search_sorted(indices: Tensor, spatial_shape: Axes, steps: list[Axes]) -> list[Pairs]:
    """The same by binary search in the sorted keys, on any device."""
    keys = site_keys(indices, spatial_shape)
    order = keys.argsort()
    sorted_keys = keys[order]
    twice = order[1:][sorted_keys[1:] == sorted_keys[:-1]]
    if len(twice):
        raise occurs_twice(indices[twice[0]].tolist())
    strides = _strides(spatial_shape)
    return [_shifted(indices, spatial_shape, step, strides, keys, sorted_keys, order) for step in steps]


def _strides(spatial_shape: Axes) -> list[int]:
    """By how much a key grows with one step along each axis."""
    return [math.prod(spatial_shape[axis + 1 :]) for axis in range(len(spatial_shape))]


def _shifted(
    indices: Tensor,
    spatial_shape: Axes,
    step: Axes,
    strides: list[int],
    keys: Tensor,
    sorted_keys: Tensor,
    order: Tensor,
) -> Pairs:
    """Pairs of one step: the rows of the sites `step` away, and the rows that have such a site."""
    # Leave out neighbours beyond the border, whose keys would be those of sites in another row.
    inside = torch.ones(len(indices), dtype=torch.bool, device=indices.device)
    for axis, (size, s) in enumerate(zip(spatial_shape, step, strict=True), 1):
        if s:
            place = indices[:, axis] + s
            inside &= (place >= 0) & (place < size)
    sites = inside.nonzero()[:, 0]

    # Look the keys of the others up.
    neighbours = keys[sites] + sum(s * stride for s, stride in zip(step, strides, strict=True))
    place = torch.searchsorted(sorted_keys, neighbours).clamp_(max=max(len(sorted_keys) - 1, 0))
    exists = sorted_keys[place] == neighbours
    return order[place[exists]], sites[exists]


def strided_rules(
    indices: Tensor, spatial_shape: Axes, kernel_size: Axes, stride: Axes, padding: Axes, dilation: Axes
) -> tuple[RuleBook, Tensor, Axes]:
    """The rule book, the output indices [V', 1 + D] in lexicographic order, and the output's spatial shape.

    An output site q exists where an input site p and an element k have p = q * stride - padding + k * dilation.
    """
    # Output shape, as of a dense convolution.
    arguments = zip(spatial_shape, kernel_size, stride, padding, dilation, strict=True)
    shape = tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in arguments)

    # For each element of the kernel, the output sites that the input sites reach: q = (p + padding - k d) / stride.
    device = indices.device
    strides, paddings = torch.tensor(stride, device=device), torch.tensor(padding, device=device)
    limits, dilations = torch.tensor(shape, device=device), torch.tensor(dilation, device=device)
    candidates: list[Pairs] = []
    for element in itertools.product(*map(range, kernel_size)):
        numerator = indices[:, 1:] + paddings - torch.tensor(element, device=device) * dilations
        place = numerator.div(strides, rounding_mode="floor")
        valid = ((numerator == place * strides) & (place >= 0) & (place < limits)).all(1)
        sites = torch.cat([indices[valid, :1], place[valid]], 1)
        candidates.append((valid.nonzero()[:, 0], site_keys(sites, shape)))

    # Number the distinct output sites.
    keys, of_candidate = torch.cat([key for _, key in candidates]).unique(return_inverse=True)
    rows = of_candidate.split([len(inputs) for inputs, _ in candidates])
    pairs = [(inputs, row) for (inputs, _), row in zip(candidates, rows, strict=True)]
    return RuleBook(pairs, len(keys)), _indices_of(keys, shape), shape


def _indices_of(keys: Tensor, shape: Axes) -> Tensor:
    """int64 [V, 1 + D] of keys [V], the inverse of `site_keys`."""
    columns = []
    for size in reversed(shape):
        columns.append(keys % size)
        keys = keys.div(size, rounding_mode="floor")
    return torch.stack([keys, *reversed(columns)], 1)
