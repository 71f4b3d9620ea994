"""Exact velocities of Gaussian mixtures on the straight path x_t = (1 - t) x_0 + t n, where t = 1 is noise.

For class k ~ N(mu_k, C_k), with C_k = Q diag(lambda) Q^T and y = Q^T (x - (1 - t) mu_k) in its eigenbasis:

    v_k(x, t) = E[n - x_0 | x_t = x, k] = Q ((t - (1 - t) lambda) / S) y - mu_k,     S = (1 - t)^2 lambda + t^2   (1)
    v(x, t)   = sum_k pi_k v_k,      pi_k proportional to p_k N(x; (1 - t) mu_k, Q diag(S) Q^T)                 (2)

Legend: B samples, K classes, D dimensions.
"""

import math

import torch
from torch import Tensor


class GaussianMixture:
    """A mixture of Gaussians with known velocities.

    Args:
        means: [K, D], float64.
        covariances: [K, D, D].
        weights: p_k [K], which sum to 1.
    """

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor):
        self.means_KD, self.weights_K = means, weights
        self.variances_KD, self.axes_KDD = torch.linalg.eigh(covariances)

    def velocity(self, x_BD: Tensor, t: float, weights: Tensor | None = None) -> Tensor:
        """v [B, D] of the mixture at time t, of equation (2), with other weights [K] or [B, K] where given."""
        prior = self.weights_K if weights is None else weights
        velocity_KBD, log_density_KB = self._classes(x_BD, t)
        posterior_BK = torch.softmax(log_density_KB.T + prior.log(), 1)
        return torch.einsum("bk,kbd->bd", posterior_BK, velocity_KBD)

    def class_velocity(self, x_BD: Tensor, t: float, label_B: Tensor) -> Tensor:
        """v_k [B, D] of each sample's own class, of equation (1)."""
        return self._classes(x_BD, t)[0][label_B, torch.arange(len(x_BD))]

    def most_likely(self, x_BD: Tensor) -> Tensor:
        """The class [B] of the largest posterior for data x."""
        return (self._classes(x_BD, 0.0)[1] + self.weights_K.log()[:, None]).argmax(0)

    def _classes(self, x_BD: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """v_k [K, B, D] and ln N(x; k) [K, B] of all classes."""
        # the sample in the eigenbasis of each class
        centred_KBD = x_BD - (1 - t) * self.means_KD[:, None]
        y_KBD = centred_KBD @ self.axes_KDD
        variance_KD = self.variances_KD
        S_KBD = ((1 - t) ** 2 * variance_KD + t**2)[:, None]

        # eq. (1) and the density of eq. (2)
        along_KBD = (t - (1 - t) * variance_KD)[:, None] / S_KBD * y_KBD
        velocity_KBD = along_KBD @ self.axes_KDD.mT - self.means_KD[:, None]
        log_density_KB = -0.5 * (y_KBD.square() / S_KBD + S_KBD.log() + math.log(2 * math.pi)).sum(-1)
        return velocity_KBD, log_density_KB
