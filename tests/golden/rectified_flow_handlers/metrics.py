"""Frechet distance against vectors of the official tool."""

import numpy as np
import torch
from golden_vector import GoldenVector

from visionseq.metrics.frechet import feature_statistics, frechet_distance


def check_fid(vector: GoldenVector) -> None:
    statistics = {}
    for name, features in vector.tensors("in/feat_").items():
        statistics[name] = mu, sigma = feature_statistics(features)
        for key, value in (("mu", mu), ("sigma", sigma)):
            _close(vector, f"out/{key}_{name}", value)
    first, second = (statistics[name] for name in sorted(statistics))
    _close(vector, "out/fid", frechet_distance(*first, *second))


def _close(vector: GoldenVector, key: str, actual: float | np.ndarray) -> None:
    """Within 1e-8, and the rounding of the type that the expected value was stored in."""
    if key in vector:
        expected = vector[key]
        rounding = torch.finfo(expected.dtype).eps / 2
        vector.close(key, np.reshape(actual, expected.shape), 1e-8 + rounding)


HANDLERS = {"fid": check_fid}
