"""The ideal model of Gaussian data N(MEAN, SPREAD^2) in every value: what samplers and likelihood are compared with."""

import torch
from torch import Tensor

from visionseq.sit.transport import path_of

MEAN, SPREAD = 0.7, 0.4


class ExactModel:
    """Velocity, score or noise of the data on a path; counts its calls and keeps their times."""

    def __init__(self, path: str, prediction: str):
        self.path, self.prediction = path_of(path, prediction), prediction
        self.times: list[float] = []

    def __call__(self, x: Tensor, t_B: Tensor, labels: Tensor | None = None) -> Tensor:
        t = t_B[0].item()
        self.times.append(t)
        c = self.path.coefficients(t, x)
        scaled = (x - c.alpha * MEAN) / (c.alpha**2 * SPREAD**2 + c.sigma**2)
        data, noise = MEAN + c.alpha * SPREAD**2 * scaled, c.sigma * scaled
        return {"velocity": self.path.velocity(data, noise, t), "score": -scaled, "noise": noise}[self.prediction]

    def no_class(self, labels: Tensor | None) -> Tensor | None:
        return None


def unit_noise(rows: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(rows, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
