"""What the two centre-based heads share: their branches, the code of a box, and boxes from codes (arXiv 2006.11275).

A code is the offset from the cell in cells, z, the logarithms of the sizes, cosine and sine of the heading[, velocity].

Legend: B samples, K candidates, C channels, H x W map.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.lion import limits
from visionseq.lion.heads.center_targets import Grid

CODE = {"center": 2, "center_z": 1, "dim": 3, "rot": 2, "vel": 2}  # channels of the branches that make up a box

Depth = int | Mapping[str, int]  # convolutions of all branches, or of each by its name


def code_branches(velocity: bool) -> list[str]:
    """The branches that make up a box, in the order of their values in its code."""
    return [name for name in CODE if velocity or name != "vel"]


def code_weights_of(weights: Sequence[float], velocity: bool) -> Tensor:
    """float32 [8 or 10]; `ConfigError` for another number of weights."""
    values = 8 + 2 * velocity
    if len(weights) != values:
        raise ConfigError(f"dense_head: {len(weights)} code_weights, expected {values}")
    return torch.tensor(weights, dtype=torch.float32)


def convolutions_of(branch: str, num_conv: Depth) -> int:
    """How many convolutions a branch has; `ConfigError` where a mapping lacks the branch, or for a bad number."""
    depth = num_conv.get(branch) if isinstance(num_conv, Mapping) else num_conv
    return limits.count(f"dense_head: num_conv of {branch}", depth, limits.MOST_LAYERS)


def groups_of(class_names: Sequence[str], each: Sequence[Sequence[str]] | None) -> list[list[int]]:
    """The labels, from 1, of each group; `ConfigError` for a name that the detector does not have."""
    unknown = [name for names in each or () for name in names if name not in class_names]
    if unknown:
        raise ConfigError(f"class_names_each_head: {', '.join(unknown)}, expected some of {', '.join(class_names)}")
    if each is not None and len(each) > len(class_names):
        raise ConfigError(f"class_names_each_head: {len(each)} groups of {len(class_names)} classes, expected fewer")
    return [[class_names.index(name) + 1 for name in names] for names in each or [class_names]]


def gathered(maps_BCHW: Tensor, cells_BK: Tensor) -> Tensor:
    """[B, K, C]: what the map holds at cells y * W + x."""
    flat = maps_BCHW.flatten(2)
    return flat.gather(2, cells_BK.unsqueeze(1).expand(-1, flat.shape[1], -1)).transpose(1, 2)


def decoded(code: Tensor, column: Tensor, row: Tensor, grid: Grid) -> Tensor:
    """Boxes [..., 7 or 9] of codes [..., 8 or 10] at integer cells."""
    x = (column + code[..., 0]) * grid.stride * grid.voxel[0] + grid.low[0]
    y = (row + code[..., 1]) * grid.stride * grid.voxel[1] + grid.low[1]
    place, heading = torch.stack([x, y], -1), torch.atan2(code[..., 7:8], code[..., 6:7])
    return torch.cat([place, code[..., 2:3], code[..., 3:6].exp(), heading, code[..., 8:]], -1)


def within(boxes: Tensor, limits: Tensor) -> Tensor:
    """Whether the centres lie in x, y, z minima and maxima, bounds included."""
    return ((boxes[..., :3] >= limits[:3]) & (boxes[..., :3] <= limits[3:])).all(-1)
