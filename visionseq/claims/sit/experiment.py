"""The runs behind the claim of `sit`: one network for each path and prediction, scored by ODE and SDE.

The rows are the steps by which arXiv 2401.08740 goes from a diffusion model to SiT, at a size that a CPU can carry: the
noise on the variance-preserving path, the velocity on that path, the velocity on the straight and on the trigonometric
path. Everything else is equal: network, updates, evaluations of a sampler. A network that was trained stays in its
folder, so an interrupted claim goes on where it stopped.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionseq.claims.recipe import check_same_recipe
from visionseq.data.digits import Digits
from visionseq.data.image_data import ImageData
from visionseq.data.images import to_float
from visionseq.data.seeding import generator_for
from visionseq.flow.guidance import ClassifierFree
from visionseq.metrics.features import FeatureCNN
from visionseq.metrics.frechet import feature_statistics, frechet_distance
from visionseq.optim.factory import OptimizerConfig
from visionseq.sit.model import SiT
from visionseq.sit.sampling import sample
from visionseq.sit.task import SiTTask
from visionseq.training import fit
from visionseq.viz import to_uint8
from visionseq.zoo.loading import load_as

ROWS: dict[str, dict[str, str]] = {
    "noise, VP": {"prediction": "noise", "path": "VP"},
    "velocity, VP": {"prediction": "velocity", "path": "VP"},
    "velocity, Linear": {"prediction": "velocity", "path": "Linear"},
    "velocity, GVP": {"prediction": "velocity", "path": "GVP"},
}
SAMPLE_KEY = 7_000_003  # keeps the noise of the scores away from that of training
GUIDANCE_SCALE = 2.0


@dataclass(frozen=True)
class Experiment:
    """Everything that is held equal between the rows."""

    network: dict[str, Any] = field(
        default_factory=lambda: {
            "input_size": 8,
            "in_channels": 1,
            "hidden_size": 64,
            "depth": 4,
            "num_heads": 4,
            "num_classes": 10,
            "learn_sigma": False,
        }
    )
    seeds: tuple[int, ...] = (0, 1, 2)
    updates: int = 3000
    batch_size: int = 64
    lr: float = 2e-3
    warmup_steps: int = 100
    ema: float = 0.999
    evaluations: int = 100
    num_samples: int = 2000
    features: str = "features-digits"


def run_seed(experiment: Experiment, seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """Train and score every row of one seed in `folder`: row -> figures."""
    check_same_recipe(experiment, folder / "recipe.json")
    measure = Measure(experiment, seed)
    return {row: measure(_trained(experiment, row, seed, folder / row.replace(", ", "-"))) for row in ROWS}


class Measure:
    """Scores of a model against the real digits, from noise and classes that all rows share."""

    def __init__(self, experiment: Experiment, seed: int):
        self.experiment, self.seed = experiment, seed
        self.network = load_as(FeatureCNN, experiment.features)
        self.labels = torch.arange(experiment.num_samples) % 10
        self.reference = feature_statistics(self._features(Digits().images))

    def __call__(self, model: SiT) -> dict[str, float]:
        """Distances by ODE and SDE with equal evaluations, and the share of right classes without and with guidance."""
        evaluations = self.experiment.evaluations
        plain = self._drawn(model, solver="heun", steps=evaluations // 2)
        noisy = self._drawn(model, solver="euler-maruyama", steps=evaluations)
        guided = self._drawn(
            model, solver="heun", steps=evaluations // 2, guidance=ClassifierFree(scale=GUIDANCE_SCALE)
        )
        return {
            "ode": self._distance(plain),
            "sde": self._distance(noisy),
            "accuracy": self._accuracy(plain),
            "guided accuracy": self._accuracy(guided),
        }

    def _drawn(self, model: SiT, **options: Any) -> Tensor:
        """Samples as 8-bit pictures show them: values outside the range are clamped."""
        start, noise = (generator_for(SAMPLE_KEY, self.seed, number) for number in (0, 1))
        z = torch.randn(self.experiment.num_samples, *model.sample_shape, generator=start)
        end = sample(model, z, class_labels=self.labels, generator=noise, record=False, **options).x
        return to_float(to_uint8(end))

    def _distance(self, images: Tensor) -> float:
        return float(frechet_distance(*self.reference, *feature_statistics(self._features(images))))

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return self.network.features(images)

    @torch.no_grad()
    def _accuracy(self, images: Tensor) -> float:
        return (self.network(images).argmax(1) == self.labels).float().mean().item()


def _trained(experiment: Experiment, row: str, seed: int, folder: Path) -> SiT:
    if not (folder / "config.json").is_file():
        torch.manual_seed(seed)
        optimizer = OptimizerConfig(
            lr=experiment.lr, name="adamw", warmup_steps=experiment.warmup_steps, schedule="cosine"
        )
        task = SiTTask({**experiment.network, **ROWS[row]}, optimizer, seed=seed)
        data = ImageData(Digits(), experiment.batch_size, seed=seed)
        fit(task, data, max_steps=experiment.updates, ema=experiment.ema).save_pretrained(folder)
    return load_as(SiT, folder)
