"""What a sampler returns: the states it went through, its predictions, the evaluations it cost, how straight it was."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trajectory:
    """States and predictions of a sampler.

    Attributes:
        states: [N + 1, B, C, H, W], from the start to the end.
        predictions: [N, B, C, H, W], the predicted end point seen from each step.
        nfe: evaluations of the network.
    """

    states: Tensor
    predictions: Tensor
    nfe: int

    @property
    def x(self) -> Tensor:
        """The end of the trajectory [B, C, H, W]."""
        return self.states[-1]

    def straightness(self) -> Tensor:
        """[B]: mean over steps of the mean of (N (x_{i-1} - x_i) - (x_0 - x_N))^2; 0 for a straight line in equal steps.

        Equal steps are assumed, also for custom time grids, as in the official code of arXiv 2405.20320.
        """
        base = self.states[0] - self.states[-1]
        velocities = (self.states[:-1] - self.states[1:]) * len(self.predictions)
        return torch.stack([(v - base).square().flatten(1).mean(1) for v in velocities]).mean(0)
