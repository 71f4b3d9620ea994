"""The surrogate derivatives in numba, written like those of `surrogates` so that loops vectorise."""

from math import pi, sqrt

import numpy as np

from visionseq.kernels.compiled import inlined
from visionseq.kernels.exponential import exp
from visionseq.kernels.lif_scan.surrogates import LINEAR, QUADRATIC, TRIANGLE, family_of

ZERO, ONE = np.float32(0), np.float32(1)
HALF, CENTRE, SIDE, SIX = np.float32(0.5), np.float32(1.15), np.float32(0.15), np.float32(6)
ROOT = np.float32(sqrt(2 * pi))


def slope_arguments(surrogate: str, width: float) -> tuple[int, np.float32, np.float32]:
    """The family of a surrogate, its width and its height, as `slopes` expects them."""
    family, width, height = family_of(surrogate, width)
    return family, np.float32(width), np.float32(height)


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
