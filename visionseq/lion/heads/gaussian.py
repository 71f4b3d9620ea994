"""Heat maps with a Gaussian around each object's centre, as centre-based detectors learn them (arXiv 1808.01244)."""

import numpy as np


def gaussian_radius(length: np.ndarray, width: np.ndarray, overlap: float) -> np.ndarray:
    """Radius in cells at which a box of this size still overlaps by IoU `overlap`; sizes in cells, float64.

    Two of its three cases lack a division, as everywhere since CornerNet; trained detectors depend on it.
    """
    both, area = length + width, length * width
    first = (both + np.sqrt(both**2 - 4 * area * (1 - overlap) / (1 + overlap))) / 2
    second = (2 * both + np.sqrt(4 * both**2 - 16 * (1 - overlap) * area)) / 2
    third = (-2 * overlap * both + np.sqrt(4 * overlap**2 * both**2 - 16 * overlap * (overlap - 1) * area)) / 2
    return np.minimum(np.minimum(first, second), third)


def draw_gaussian(heatmap: np.ndarray, x: int, y: int, radius: int) -> None:
    """Raise `heatmap` [H, W] float32 to a Gaussian of `radius` cells around (x, y), in place; 1 at the centre.

    Only the part on the map is computed, however large the radius is.
    """
    # The part of the square around the centre that lies on the map, as steps from the centre.
    height, width = heatmap.shape
    columns = np.arange(max(-radius, -x), min(radius + 1, width - x), dtype=np.float64)
    rows = np.arange(max(-radius, -y), min(radius + 1, height - y), dtype=np.float64)
    if not len(columns) or not len(rows):
        return

    bell = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / (2 * ((2 * radius + 1) / 6) ** 2))
    bell[bell < np.finfo(np.float64).eps] = 0
    first_row, first_column = y + int(rows[0]), x + int(columns[0])
    area = heatmap[first_row : first_row + len(rows), first_column : first_column + len(columns)]
    np.maximum(area, bell.astype(np.float32), out=area)
