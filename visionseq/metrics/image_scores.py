"""Scores of generated images as torchmetrics: Frechet distance, kernel distance (KID), precision and recall.

Each takes `update(images, real=True | False)` and compares the features of a `FeatureExtractor`, whose name it keeps in
`features_name`: report it with the score.
"""

import os
import warnings

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.utilities import dim_zero_cat

from visionseq.errors import DataError
from visionseq.metrics.extractor import FeatureExtractor, FeatureNetwork
from visionseq.metrics.frechet import empty_moments, frechet_distance, mean_and_covariance, merge_moments, moments_of
from visionseq.metrics.reference import load_statistics

_BLOCK = 256  # rows of a distance matrix that are held at once


class FrechetDistance(Metric):
    """Frechet distance of generated and real images (arXiv 1706.08500); with Inception features the FID.

    Keeps float64 moments, not the features: memory does not grow, and processes merge exactly.

    Args:
        features: extractor or feature network.
        reference: mean and covariance of the real images, or the npz that holds them; `update` then takes generated
            images only.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    real: Tensor
    generated: Tensor

    def __init__(
        self,
        features: FeatureExtractor | FeatureNetwork,
        reference: tuple[np.ndarray, np.ndarray] | str | os.PathLike | None = None,
    ):
        super().__init__()
        self.features = FeatureExtractor.of(features)
        self.reference = load_statistics(reference) if isinstance(reference, str | os.PathLike) else reference
        if self.reference is not None and len(self.reference[0]) != self.features.num_features:
            raise DataError(
                f"reference statistics of {len(self.reference[0])} features, "
                f"{self.features_name} has {self.features.num_features}: they belong to different networks"
            )
        for name in ("real", "generated"):
            self.add_state(name, empty_moments(self.features.num_features), dist_reduce_fx=merge_moments)

    @property
    def features_name(self) -> str:
        return self.features.name

    def update(self, images: Tensor, real: bool) -> None:
        """Add images [B, C, H, W], float in [-1, 1] or uint8."""
        if real and self.reference is not None:
            raise DataError("real images and reference statistics: expected one of the two")
        name = "real" if real else "generated"
        state = getattr(self, name)
        added = moments_of(self.features(images).to(state.device))
        setattr(self, name, merge_moments(torch.stack([state, added])))

    def compute(self) -> Tensor:
        """The distance, a float64 scalar."""
        real = self.reference if self.reference is not None else mean_and_covariance(self.real)
        distance = frechet_distance(*mean_and_covariance(self.generated), *real)
        return torch.tensor(distance, dtype=torch.float64, device=self.generated.device)


class KernelDistance(KernelInceptionDistance):
    """Kernel distance (KID, arXiv 1801.01401): unbiased squared MMD with the kernel (x.y / D + 1)^3 over subsets.

    `compute` returns mean and standard deviation over the subsets, which are drawn from `seed`.

    Args:
        features: extractor or feature network.
        subsets: number of subsets.
        subset_size: samples in each, at most as many as there are.
        seed: of the subsets.
    """

    def __init__(
        self,
        features: FeatureExtractor | FeatureNetwork,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 0,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torchmetrics warns that it keeps all features
            super().__init__(FeatureExtractor.of(features), subsets, subset_size)
        self.largest_subset, self.seed = subset_size, seed

    @property
    def features_name(self) -> str:
        return str(self.inception.name)

    def compute(self) -> tuple[Tensor, Tensor]:
        self.subset_size = min(self.largest_subset, _rows(self.real_features), _rows(self.fake_features))
        if self.subset_size < 2:
            raise DataError("the kernel distance needs at least two real and two generated samples")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return super().compute()


class PrecisionRecall(Metric):
    """Improved precision and recall (arXiv 1904.06991, eqs. 1 and 2).

    Precision is the share of generated samples that lie in the manifold of the real ones, recall the share of real
    samples in that of the generated ones; a manifold is the union of balls around its samples, each reaching to the
    k-th nearest neighbour.

    Args:
        features: extractor or feature network.
        k: number of the neighbour that bounds a ball.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self, features: FeatureExtractor | FeatureNetwork, k: int = 3):
        super().__init__()
        self.features, self.k = FeatureExtractor.of(features), k
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    @property
    def features_name(self) -> str:
        return self.features.name

    def update(self, images: Tensor, real: bool) -> None:
        """Add images [B, C, H, W], float in [-1, 1] or uint8."""
        (self.real if real else self.generated).append(self.features(images))

    def compute(self) -> dict[str, Tensor]:
        """`precision` and `recall` in [0, 1]."""
        if min(_rows(self.real), _rows(self.generated)) <= self.k:
            raise DataError(f"precision and recall need more than k = {self.k} real and generated samples")
        real, generated = dim_zero_cat(self.real), dim_zero_cat(self.generated)
        return {
            "precision": _share_inside(generated, real, self.k),
            "recall": _share_inside(real, generated, self.k),
        }


def _share_inside(points_ND: Tensor, centres_MD: Tensor, k: int) -> Tensor:
    """Share of the points that lie in the ball of at least one centre."""
    # The nearest neighbour of a centre among the centres is itself.
    radius_M = torch.cat([_distances(rows, centres_MD).kthvalue(k + 1).values for rows in centres_MD.split(_BLOCK)])
    inside = [(_distances(rows, centres_MD) <= radius_M).any(1) for rows in points_ND.split(_BLOCK)]
    return torch.cat(inside).float().mean()


def _distances(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Euclidean distances [N, M], in float64 where the device has it: float32 confuses near neighbours."""
    dtype = torch.float32 if a_ND.device.type == "mps" else torch.float64
    return torch.cdist(a_ND.to(dtype), b_MD.to(dtype))


def _rows(features: list[Tensor] | Tensor) -> int:
    return len(features) if isinstance(features, Tensor) else sum(len(batch) for batch in features)
