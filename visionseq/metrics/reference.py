"""Reference statistics on disk: an npz with `mu` [D] and `sigma` [D, D] in float64, the layout of EDM's FID tool."""

import os

import numpy as np

from visionseq.errors import DataError
from visionseq.files import atomic_write
from visionseq.npz import Expected, read_npz

MAX_FEATURES = 8192
_LAYOUT = {
    "mu": Expected(axes=1, kinds="f", max_bytes=8 * MAX_FEATURES),
    "sigma": Expected(axes=2, kinds="f", max_bytes=8 * MAX_FEATURES**2),
}
_SYMMETRY = 1e-6  # largest difference of sigma and its transpose, relative to its largest entry


def load_statistics(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D] in float64 from a reference file.

    Raises:
        DataError: the file is missing or damaged, or holds no mean and covariance.
    """
    arrays = read_npz(path, _LAYOUT)
    mu, sigma = (arrays[name].astype(np.float64) for name in _LAYOUT)
    if sigma.shape != (mu.size, mu.size) or not mu.size:
        raise DataError(f"{path}: mu {list(mu.shape)} and sigma {list(sigma.shape)}, expected [D] and [D, D]")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise DataError(f"{path}: mu or sigma contain values that are not finite")
    if np.abs(sigma - sigma.T).max() > _SYMMETRY * np.abs(sigma).max() or np.diagonal(sigma).min() < 0:
        raise DataError(f"{path}: sigma is no covariance: not symmetric, or negative on its diagonal")
    return mu, sigma


def save_statistics(path: str | os.PathLike, mu: np.ndarray, sigma: np.ndarray) -> None:
    """Write mean [D] and covariance [D, D] as a reference file, atomically."""
    with atomic_write(path) as file:
        np.savez(file, mu=np.asarray(mu, dtype=np.float64), sigma=np.asarray(sigma, dtype=np.float64))
