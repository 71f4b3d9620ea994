"""The runs behind the claim of `arflow`: two trainings at equal cost, three ways to draw, and their scores.

    carried   trained on sequences of five images of a class; the memory travels along the trajectory
    reset     the same weights, the memory is emptied before every call
    single    the same network trained on single images, as many in each update

Parameters, images of an update, updates and network calls are equal. Each stage leaves a file and is skipped where that
exists, so an interrupted claim goes on where it stopped.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionseq.arflow.data import SequenceData
from visionseq.arflow.loss import sequence_losses
from visionseq.arflow.model import ARFlow
from visionseq.arflow.sampling import SequenceNetwork, sample
from visionseq.arflow.sequences import SequenceBatch
from visionseq.arflow.task import ARFlowTask
from visionseq.claims.recipe import check_same_recipe
from visionseq.data.digits import Digits
from visionseq.data.images import to_float
from visionseq.data.seeding import generator_for
from visionseq.files import write_json
from visionseq.flow.sde import normal_noise
from visionseq.metrics.features import FeatureCNN
from visionseq.metrics.frechet import feature_statistics, frechet_distance
from visionseq.optim.factory import OptimizerConfig
from visionseq.training import fit
from visionseq.viz import to_uint8
from visionseq.zoo.loading import load_as

IMAGES = 5  # in a sequence
SAMPLE_KEY, LOSS_KEY = 7_000_003, 7_000_009  # keep the noise of the scores away from that of training
TIMES = tuple(i / 10 for i in range(1, 10))  # at which the loss with and without predecessors is compared


@dataclass(frozen=True)
class Experiment:
    """Everything that is held equal between the arms."""

    network: dict[str, Any] = field(
        default_factory=lambda: {
            "input_size": 8,
            "patch_size": 2,
            "in_channels": 1,
            "hidden_size": 48,
            "depth": 3,
            "num_heads": 2,
            "num_classes": 10,
            "learn_sigma": False,
        }
    )
    updates: int = 3000
    sequences: int = 16  # of five images, or five times as many single images
    lr: float = 1.5e-3
    ema: float = 0.998
    sampler_steps: tuple[int, ...] = (50, 10)
    copies: int = 2  # samples for each real image, with its class
    features: str = "features-digits"
    seeds: tuple[int, ...] = (0, 1, 2)
    score_batch: int = 600


class Forgetful:
    """A network whose memories are empty at each call."""

    def __init__(self, network: ARFlow):
        self.network, self.path, self.null_label = network, network.path, network.null_label

    def __call__(self, x: Tensor, t: Tensor, y: Tensor, memories: None = None) -> tuple[Tensor, None]:
        return self.network(x, t, y)[0], None


def run_seed(experiment: Experiment, seed: int, folder: Path) -> dict[str, Any]:
    """Train and score everything of one seed in `folder`; returns the scores by arm, and the losses by context.

    Raises `ConfigError` where the folder holds the work of another recipe.
    """
    check_same_recipe(experiment, folder / "recipe.json")
    scores_file = folder / "scores.json"
    scores = json.loads(scores_file.read_text()) if scores_file.is_file() else {}
    sequences, single = (_trained(experiment, images, seed, folder) for images in (IMAGES, 1))

    measure = Measure(experiment, seed)
    arms: dict[str, SequenceNetwork] = {"carried": sequences, "reset": Forgetful(sequences), "single": single}
    for name, network in arms.items():
        if name not in scores:
            scores[name] = {str(steps): measure.scores(network, steps) for steps in experiment.sampler_steps}
            write_json(scores_file, scores)
    if "loss" not in scores:
        scores["loss"] = loss_by_context(sequences, seed)
        write_json(scores_file, scores)
    return scores


def _trained(experiment: Experiment, images: int, seed: int, folder: Path) -> ARFlow:
    """The network trained on sequences of so many images, from the folder where it was trained before."""
    model_folder = folder / f"images{images}"
    if not (model_folder / "config.json").is_file():
        torch.manual_seed(seed)
        rows = experiment.sequences * IMAGES // images
        optimizer = OptimizerConfig(
            experiment.lr, name="adamw", betas=(0.9, 0.95), weight_decay=0.02, decay_vectors=False
        )
        model = fit(
            ARFlowTask(experiment.network, optimizer, seed=seed),
            SequenceData(Digits(), rows, images, seed=seed),
            max_steps=experiment.updates,
            ema=experiment.ema,
            gradient_clip_val=3.0,
            gradient_clip_algorithm="value",
        )
        model.save_pretrained(model_folder)
    return load_as(ARFlow, model_folder)


class Measure:
    """Scores of drawn digits against the real ones, from noise that all arms share."""

    def __init__(self, experiment: Experiment, seed: int):
        self.experiment, self.seed, self.real = experiment, seed, Digits()
        self.classifier = load_as(FeatureCNN, experiment.features)
        images = to_float(self.real.images)
        self.references = {name: feature_statistics(values) for name, values in self._features(images).items()}

    def scores(self, network: SequenceNetwork, steps: int) -> dict[str, float]:
        """Frechet distances in features and pixels, and the share of images that show their class."""
        assert self.real.labels is not None
        labels = self.real.labels.repeat(self.experiment.copies)
        images = self._drawn(network, labels, steps)
        distances = {
            name: float(frechet_distance(*self.references[name], *feature_statistics(values)))
            for name, values in self._features(images).items()
        }
        with torch.no_grad():
            shown = (self.classifier(images).argmax(1) == labels).float().mean().item()
        return {**distances, "accuracy": shown}

    def _drawn(self, network: SequenceNetwork, labels: Tensor, steps: int) -> Tensor:
        """8-bit images [n, 1, 8, 8] in [-1, 1] without guidance; a batch has a generator of its own."""
        images = []
        for number, classes in enumerate(labels.split(self.experiment.score_batch)):
            generator = generator_for(SAMPLE_KEY, self.seed, number)
            noise = torch.randn(len(classes), 1, 8, 8, generator=generator)
            trajectory = sample(network, noise, normal_noise(generator), steps, classes, record=False)
            images.append(to_float(to_uint8(trajectory.x)))
        return torch.cat(images)

    @torch.no_grad()
    def _features(self, images: Tensor) -> dict[str, Tensor]:
        return {"features": self.classifier.features(images), "pixels": images.flatten(1)}


@torch.no_grad()
def loss_by_context(network: ARFlow, seed: int, count: int = 1000) -> dict[str, list[float]]:
    """Squared error of the last image at each of `TIMES`, with its four noisier predecessors and without them.

    Both have the same images, the same noise and the same times.
    """
    source = SequenceData(Digits(), count, IMAGES, seed=seed + LOSS_KEY).train_source()
    keys = np.stack([np.zeros(count, dtype=np.int64), np.arange(count)], axis=1)
    batch = source.fetch(keys)
    assert isinstance(batch, SequenceBatch) and batch.label is not None  # noqa: PT018 (of labelled digits)
    generator = generator_for(LOSS_KEY, seed)
    noise = torch.randn(batch.image.shape, generator=generator)
    earlier = torch.rand(count, IMAGES - 1, generator=generator).sort(1).values

    losses: dict[str, list[float]] = {"with predecessors": [], "alone": []}
    for time in TIMES:
        t_BS = torch.cat([earlier * time, torch.full((count, 1), time)], 1)
        for name, first in (("with predecessors", 0), ("alone", IMAGES - 1)):
            part = batch.image[:, first:], noise[:, first:], t_BS[:, first:]
            losses[name].append(sequence_losses(network, *part, batch.label)[:, -1].mean().item())
    return losses
