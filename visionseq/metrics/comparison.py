"""All scores of two sets of features at once, as plain values with the name of the feature network beside them."""

from typing import Any

import numpy as np
from torch import Tensor

from visionseq.errors import DataError
from visionseq.metrics.extractor import precomputed
from visionseq.metrics.frechet import feature_statistics, frechet_distance
from visionseq.metrics.image_scores import KernelDistance, PrecisionRecall


def compare_features(
    features_name: str,
    generated: Tensor,
    real: Tensor,
    *,
    neighbours: int = 3,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of generated [N, D] against real [M, D] features of the network `features_name`.

    Returns `features`, `frechet_distance`, `kernel_distance` {"mean", "std"}, `precision`, `recall` and the numbers of
    samples.
    """
    extractor = precomputed(generated.shape[1], features_name)
    kernel = KernelDistance(extractor, subsets, subset_size, seed)
    manifold = PrecisionRecall(extractor, neighbours)
    for metric in (kernel, manifold):
        metric.update(generated, real=False)
        metric.update(real, real=True)
    mean, std = (value.item() for value in kernel.compute())
    return {
        **compare_statistics(features_name, generated, feature_statistics(real)),
        "num_reference": len(real),
        "kernel_distance": {"mean": mean, "std": std, "subsets": subsets, "subset_size": kernel.subset_size},
        **{name: share.item() for name, share in manifold.compute().items()},
        "neighbours": neighbours,
    }


def compare_statistics(
    features_name: str, generated: Tensor, reference: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Frechet distance of generated [N, D] features to a mean [D] and covariance [D, D] of real ones."""
    if len(reference[0]) != generated.shape[1]:
        raise DataError(
            f"the reference has {len(reference[0])} features, {features_name} has {generated.shape[1]}: "
            "they belong to different networks"
        )
    distance = frechet_distance(*feature_statistics(generated), *reference)
    return {"features": features_name, "frechet_distance": distance, "num_samples": len(generated)}
