"""Frechet distance of two sets of features, each seen as a Gaussian (arXiv 1706.08500, eq. 6).

    d^2 = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

mu is the mean and S the unbiased covariance, in float64. With Inception features this is the FID.

Moments of a set are kept in one tensor [D + 2, D]: row 0 the count, row 1 the mean, then the scatter matrix
sum (x - mean)(x - mean)^T. Two such tensors merge exactly (Chan, Golub and LeVeque 1979) and without the cancellation
that sums of squares suffer, so batches and processes can be merged in any order.

Legend: B batch, D features, M sets to merge.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from visionseq.errors import DataError


def frechet_distance(mu_1: ArrayLike, sigma_1: ArrayLike, mu_2: ArrayLike, sigma_2: ArrayLike) -> float:
    """Squared Frechet distance of two Gaussians with means [D] and covariances [D, D], computed in float64.

    The trace of (S_1 S_2)^(1/2) is the sum of the singular values of S_1^(1/2) S_2^(1/2): equal to the real part of
    the matrix square root's trace, and well defined for singular covariances.

    Raises:
        DataError: shapes that do not match, or values that are not finite.
    """
    mu_1, mu_2, sigma_1, sigma_2 = (np.asarray(x, dtype=np.float64) for x in (mu_1, mu_2, sigma_1, sigma_2))
    _check_gaussian(mu_1, sigma_1)
    _check_gaussian(mu_2, sigma_2)
    if mu_1.shape != mu_2.shape:
        raise DataError(f"features of {mu_1.size} and of {mu_2.size} dimensions: they come from different networks")

    # eq. (6)
    mean_term = np.square(mu_1 - mu_2).sum()
    cross_term = np.linalg.svd(_square_root(sigma_1) @ _square_root(sigma_2), compute_uv=False).sum()
    # The distance of equal Gaussians is 0 up to rounding of either sign.
    return max(0.0, float(mean_term + np.trace(sigma_1) + np.trace(sigma_2) - 2 * cross_term))


def feature_statistics(features: ArrayLike | Tensor | Iterable[ArrayLike | Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and unbiased covariance [D, D] in float64, of one array [N, D] or of a stream of batches [B, D].

    Raises:
        DataError: fewer than two rows, or not two axes.
    """
    batches: Any = [features] if isinstance(features, np.ndarray | Tensor) else features
    moments = None
    for batch in batches:
        added = moments_of(torch.as_tensor(batch))
        moments = added if moments is None else merge_moments(torch.stack([moments, added]))
    if moments is None:
        raise DataError("no features, expected at least two rows")
    return mean_and_covariance(moments)


def empty_moments(num_features: int) -> Tensor:
    """Moments [D + 2, D] of no rows."""
    return torch.zeros(num_features + 2, num_features, dtype=torch.float64)


def moments_of(features_BD: Tensor) -> Tensor:
    """Moments [D + 2, D] in float64 of one batch."""
    if features_BD.ndim != 2:
        raise DataError(f"features of shape {tuple(features_BD.shape)}, expected [B, D]")
    x_BD = features_BD.double()
    mean_D = x_BD.mean(0) if len(x_BD) else x_BD.new_zeros(x_BD.shape[1])
    centred_BD = x_BD - mean_D
    return torch.cat([torch.full_like(mean_D, len(x_BD))[None], mean_D[None], centred_BD.T @ centred_BD])


def merge_moments(moments: Tensor) -> Tensor:
    """Moments [D + 2, D] of the union of M sets, from their moments [M, D + 2, D]."""
    count_MD, mean_MD, scatter_MDD = moments[:, 0], moments[:, 1], moments[:, 2:]
    total_D = count_MD.sum(0)
    mean_D = (count_MD * mean_MD).sum(0) / total_D.clamp(min=1)
    shift_MD = (mean_MD - mean_D) * count_MD.sqrt()
    return torch.cat([total_D[None], mean_D[None], scatter_MDD.sum(0) + shift_MD.T @ shift_MD])


def mean_and_covariance(moments: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and unbiased covariance [D, D] from moments."""
    count = int(moments[0, 0])
    if count < 2:
        raise DataError(f"a covariance needs at least two samples, found {count}")
    return moments[1].cpu().numpy(), (moments[2:] / (count - 1)).cpu().numpy()


def _square_root(sigma: np.ndarray) -> np.ndarray:
    """Symmetric square root; eigenvalues that are rounding noise around 0 count as 0."""
    values, vectors = np.linalg.eigh(sigma)
    noise = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return (vectors * np.sqrt(np.where(values > noise, values, 0.0))) @ vectors.T


def _check_gaussian(mu: np.ndarray, sigma: np.ndarray) -> None:
    if mu.ndim != 1 or sigma.shape != (mu.size, mu.size) or not mu.size:
        raise DataError(f"mean of shape {mu.shape} and covariance of shape {sigma.shape}, expected [D] and [D, D]")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise DataError("mean or covariance contain values that are not finite")
