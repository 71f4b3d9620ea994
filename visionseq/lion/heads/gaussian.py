"""Heat maps with a Gaussian around each object's centre, as centre-based detectors learn them (arXiv 1808.01244)."""

import numpy as np


def gaussian_radius(length: np.ndarray, width: np.ndarray, overlap: float) -> np.ndarray:
    """Radius in cells at which a box of this size still overlaps by IoU `overlap`; sizes in cells, float64.

    The formula lacks a division in two of its three cases, as everywhere since CornerNet; trained detectors expect it.
    """
    both, area = length + width, length * width
    first = (both + np.sqrt(both**2 - 4 * area * (1 - overlap) / (1 + overlap))) / 2
    second = (2 * both + np.sqrt(4 * both**2 - 16 * (1 - overlap) * area)) / 2
    third = (-2 * overlap * both + np.sqrt(4 * overlap**2 * both**2 - 16 * overlap * (overlap - 1) * area)) / 2
    return np.minimum(np.minimum(first, second), third)


def draw_gaussian(heatmap: np.ndarray, x: int, y: int, radius: int) -> None:
    """Raise `heatmap` [H, W] float32 to a Gaussian of `radius` cells around (x, y), in place; 1 at the centre."""
    height, width = heatmap.shape
    if not (-radius <= x < width + radius and -radius <= y < height + radius):
        return
    left, right = min(x, radius), min(width - x, radius + 1)
    top, bottom = min(y, radius), min(height - y, radius + 1)
    if left + right <= 0 or top + bottom <= 0:
        return
    steps = np.arange(-radius, radius + 1, dtype=np.float64)
    bell = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * ((2 * radius + 1) / 6) ** 2))
    bell[bell < np.finfo(np.float64).eps * bell.max()] = 0
    patch = bell[radius - top : radius + bottom, radius - left : radius + right].astype(np.float32)
    area = heatmap[y - top : y + bottom, x - left : x + right]
    np.maximum(area, patch, out=area)
