"""Frechet distance against vectors of the official tool."""

import torch
from golden_vector import GoldenVector, close

from visionseq.metrics.frechet import feature_statistics, frechet_distance


def check_fid(vector: GoldenVector) -> None:
    statistics = {}
    for name, features in vector.tensors("in/feat_").items():
        statistics[name] = mu, sigma = feature_statistics(features)
        for key, value in (("mu", mu), ("sigma", sigma)):
            if f"out/{key}_{name}" in vector:
                _close(torch.from_numpy(value), vector[f"out/{key}_{name}"])
    first, second = (statistics[name] for name in sorted(statistics))
    _close(torch.tensor(frechet_distance(*first, *second), dtype=torch.float64), vector["out/fid"])


def _close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-8, and the rounding of the type that the expected value was stored in."""
    rounding = torch.finfo(expected.dtype).eps / 2
    close(actual.reshape(expected.shape), expected, 1e-8 + rounding)


HANDLERS = {"fid": check_fid}
