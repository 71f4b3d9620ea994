"""Guidance of an exact but imperfect model: digits as ten Gaussians, sampled in few steps by every rule.

The conditional model believes in the wanted class by 0.6 and in every class by 0.04 more, so that it needs guidance.
Its velocities are exact (`mixture.py`), so nothing but the guidance and the number of steps makes a difference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visionseq.claims.raag.mixture import GaussianMixture
from visionseq.data.digits import Digits
from visionseq.data.seeding import generator_for
from visionseq.flow.guidance import ClassifierFree, Guidance, RatioAware, ZeroStar, guided
from visionseq.flow.solvers import euler, integrate
from visionseq.metrics.frechet import feature_statistics, frechet_distance

CLASSES = 10
SCALES = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)
RATIO_AWARE = ((18.0, 12.0), (10.0, 8.0), (10.0, 4.0), (7.0, 4.0), (7.0, 2.0), (5.0, 2.0), (4.0, 1.0))
Scores = dict[str, dict[str, Any]]  # rule -> scores


@dataclass(frozen=True)
class Recipe:
    """The settings of the study."""

    seeds: tuple[int, ...] = (0, 1, 2)
    num_samples: int = 2000
    steps: tuple[int, ...] = (5, 10, 30)
    noise_variance: float = 0.02
    belief: float = 0.6


def rules() -> dict[str, Guidance | None]:
    """The rules that are compared: none, seven scales, seven pairs of RAAG, an interval, CFG-Zero*."""
    interval = ClassifierFree(7.0, interval=(0.2 + 1e-6, 0.8))  # the steps whose share of the way is in [0.2, 0.8)
    return {
        "no guidance": None,
        **{f"CFG {scale:g}": ClassifierFree(scale) for scale in SCALES},
        "CFG 7 in the interval 0.2 to 0.8": interval,
        "CFG-Zero* 7": ZeroStar(7.0),
        **{f"RAAG ({largest:g}, {alpha:g})": RatioAware(largest, alpha) for largest, alpha in RATIO_AWARE},
    }


def digit_mixture(recipe: Recipe) -> tuple[GaussianMixture, float]:
    """The mixture of ten Gaussians in 64 dimensions, of standardised digits, and the mean norm of the digits."""
    digits = Digits()
    images = digits.images.flatten(1).double()
    images = (images - images.mean(0)) / images.std()
    classes = [images[digits.labels == k] for k in range(CLASSES)]
    noise = recipe.noise_variance * torch.eye(images.shape[1], dtype=torch.float64)
    means = torch.stack([members.mean(0) for members in classes])
    covariances = torch.stack([members.T.cov() + noise for members in classes])
    weights = torch.tensor([len(members) / len(images) for members in classes], dtype=torch.float64)
    return GaussianMixture(means, covariances, weights), images.norm(dim=1).mean().item()


def run_seed(recipe: Recipe, seed: int, progress: Callable[[str], None]) -> dict[int, Scores]:
    """Scores of every rule at every number of steps, from the noise of one seed."""
    mixture, _ = digit_mixture(recipe)
    labels = torch.arange(recipe.num_samples) % CLASSES
    noise = torch.randn(len(labels), 64, generator=generator_for(seed), dtype=torch.float64)
    scores: dict[int, Scores] = {}
    for steps in recipe.steps:
        progress(f"seed {seed}, {steps} steps")
        scores[steps] = {
            name: run(mixture, noise, labels, steps, rule, recipe.belief) for name, rule in rules().items()
        }
        scores[steps]["perfect model, no guidance"] = run(mixture, noise, labels, steps, None, belief=1.0)
    return scores


def run(
    mixture: GaussianMixture, noise: Tensor, labels: Tensor, steps: int, rule: Guidance | None, belief: float
) -> dict[str, Any]:
    """Sample by Euler's steps and score; `ratio` holds the mean rho of each guided step of a ratio-aware rule."""
    share = (1 - belief) / CLASSES
    prior = torch.full((len(labels), CLASSES), share, dtype=torch.float64)
    prior[torch.arange(len(labels)), labels] += belief
    ratios: list[float] = []

    def model(x: Tensor, t_B: Tensor, weights: Tensor) -> Tensor:
        return mixture.velocity(x, t_B[0].item(), weights)

    def record(step: int, t: float, x: Tensor) -> None:
        if isinstance(rule, RatioAware) and rule.last_ratio is not None:
            ratios.append(rule.last_ratio.mean().item())

    grid = [1 - i / steps for i in range(steps + 1)]
    field = guided(model, prior, mixture.weights_K, rule, grid=grid)
    x = integrate(euler, field, noise, grid, record, record=False).x
    return {**_scores(mixture, x, labels), **({"ratio": ratios} if ratios else {})}


def _scores(mixture: GaussianMixture, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of samples of the wanted class, mean Frechet distance to the class, mean norm."""
    covariances = mixture.axes_KDD * mixture.variances_KD[:, None] @ mixture.axes_KDD.mT
    distances = [
        frechet_distance(mixture.means_KD[k].numpy(), covariances[k].numpy(), *feature_statistics(x[labels == k]))
        for k in range(CLASSES)
    ]
    return {
        "accuracy": (mixture.most_likely(x) == labels).double().mean().item(),
        "distance": sum(distances) / CLASSES,
        "norm": x.norm(dim=1).mean().item(),
    }
