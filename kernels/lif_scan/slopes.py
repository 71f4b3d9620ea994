"""The surrogate derivatives in numba, written like those of `surrogates` so that loops vectorise."""

from math import pi, sqrt

import numpy as np

from visionseq.kernels.compiled import inlined
from visionseq.kernels.exponential import exp
from visionseq.kernels.lif_scan.surrogates import coefficients

QUADRATIC, LINEAR, TRIANGLE, GAUSSIANS = range(4)  # families
ZERO, ONE = np.float32(0), np.float32(1)
HALF, CENTRE, SIDE, SIX = np.float32(0.5), np.float32(1.15), np.float32(0.15), np.float32(6)
ROOT = np.float32(sqrt(2 * pi))


def slope_arguments(surrogate: str, width: float) -> tuple[int, np.float32, np.float32]:
    """The family of a surrogate and its two numbers, as `slopes` expects them."""
    if surrogate == "triangle":
        return TRIANGLE, np.float32(width), ONE
    if surrogate == "multigauss":
        return GAUSSIANS, np.float32(width), ONE
    if surrogate in ("superspike", "fast_sigmoid"):
        return LINEAR, np.float32(width), ONE
    height, square = coefficients(surrogate, width)
    return QUADRATIC, np.float32(square), np.float32(height)


@inlined
def slopes(family, width, height, v, threshold, out):
    """out = surrogate derivative at v - threshold, element by element."""
    size = out.shape[0]
    if family == QUADRATIC:
        for j in range(size):
            d = v[j] - threshold[j]
            out[j] = height / (ONE + width * (d * d))
    elif family == LINEAR:
        for j in range(size):
            root = ONE / (ONE + width * abs(v[j] - threshold[j]))
            out[j] = root * root
    elif family == TRIANGLE:
        for j in range(size):
            linear = ONE - width * abs(v[j] - threshold[j])
            out[j] = linear if linear > ZERO else ZERO
    else:
        wide = SIX * width
        centre, side = CENTRE / (width * ROOT), SIDE / (wide * ROOT)
        narrow, broad = -HALF / (width * width), -HALF / (wide * wide)
        for j in range(size):
            d = v[j] - threshold[j]
            left, right = d + width, d - width
            out[j] = centre * exp(narrow * d * d) - side * (exp(broad * left * left) + exp(broad * right * right))
