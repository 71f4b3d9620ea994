"""From voxels to long groups: an order along windows, cut into groups of one length (arXiv 2407.18232, section 3.2).

Windows only order the voxels of a sample; a group may span many windows. Where a sample's voxels do not fill its last
group, copies of voxels fill it. They are not neutral: operators that also read from right to left depend on them.

Legend: V voxels, P places in groups.
"""

from typing import NamedTuple

import torch
from torch import Tensor

Window = tuple[int, int, int]


class Groups(NamedTuple):
    """Fields: `sources` int64 [P], the sorted voxel that each place reads; `places` int64 [V], the place of each sorted
    voxel.
    """

    sources: Tensor
    places: Tensor


def window_order(
    indices: Tensor, spatial_shape: tuple[int, ...], window_shape: Window, shift: bool, direction: str
) -> Tensor:
    """int64 [V]: the voxels in the order of their windows, and within one along `direction` first.

    Args:
        indices: int64 [V, 4], sample, z, y, x.
        spatial_shape: (Z, Y, X).
        window_shape: x, y, z.
        shift: move the windows by half of their size.
        direction: x or y.
    """
    place = indices[:, [3, 2, 1]]
    window = torch.tensor(window_shape, device=indices.device)
    if shift:
        place = place + window.div(2, rounding_mode="floor")
    which = place.div(window, rounding_mode="floor")
    inside = place - which * window
    sizes = zip(reversed(spatial_shape), window_shape, strict=True)
    number = [-(-size // length) + 1 for size, length in sizes]
    first, second = (0, 1) if direction == "x" else (1, 0)
    key = indices[:, 0] * number[first] + which[:, first]
    key = (key * number[second] + which[:, second]) * number[2] + which[:, 2]
    key = (key * window_shape[first] + inside[:, first]) * window_shape[second] + inside[:, second]
    return (key * window_shape[2] + inside[:, 2]).argsort()


def group_places(counts: list[int], group_size: int, device: torch.device | str = "cpu") -> Groups:
    """Places of the sorted voxels of samples with `counts` voxels each; every sample fills whole groups."""
    sources, places = [], []
    start, filled = 0, 0
    for count in counts:
        length = -(-count // group_size) * group_size
        slots = torch.arange(length, device=device)
        # Slots beyond the voxels copy the same slots of the group before; in an only group, the list from its start.
        before = slots - group_size if length > group_size else slots % max(count, 1)
        sources.append(start + torch.where(slots < count, slots, before))
        places.append(filled + slots[:count])
        start, filled = start + count, filled + length
    return Groups(torch.cat(sources), torch.cat(places))
