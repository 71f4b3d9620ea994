"""The runs behind the claim of `rectified_flow`: a teacher, its pairs, one student per row, and their scores.

Every stage leaves a folder or a file and is skipped where that exists, so an interrupted claim goes on where it
stopped. The rows are those of the ablation in arXiv 2405.20320, table 1, at a size that a CPU can carry: A vanilla
2-rectified flow, B with the teacher's weights, C with U-shaped t, D with pseudo-Huber, E with a perceptual term, F with
that term divided by t.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionseq.claims.recipe import check_same_recipe
from visionseq.data.digits import Digits
from visionseq.data.fashion_mnist import FashionMNIST
from visionseq.data.image_data import ImageData
from visionseq.data.images import to_float
from visionseq.data.seeding import generator_for
from visionseq.files import write_json
from visionseq.metrics.features import FeatureCNN
from visionseq.metrics.frechet import feature_statistics, frechet_distance
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity
from visionseq.rectified_flow.pairs import ReflowPairs
from visionseq.rectified_flow.sampling import PATH, sample
from visionseq.rectified_flow.task import ReflowTask, TeacherTask
from visionseq.rectified_flow.teacher import edm_sample
from visionseq.training import fit
from visionseq.viz import to_uint8
from visionseq.zoo.loading import load_as

FEW_STEPS = (1, 2, 5)
STRAIGHTNESS_STEPS = 32
BINS = 20
COPY_RATIO = 1 / 3  # an image is a copy where the nearest real one is so much nearer than the second nearest
COPY_SAMPLES = 20_000  # images that are searched for copies
SAMPLE_KEY = 7_000_003  # keeps the noise of the scores away from that of training

ROWS: dict[str, dict[str, Any]] = {
    "A": {"from_teacher": False, "time": "uniform", "loss": "l2-squared"},
    "B": {"from_teacher": True, "time": "uniform", "loss": "l2-squared"},
    "C": {"from_teacher": True, "time": "u-shaped", "loss": "l2-squared"},
    "D": {"from_teacher": True, "time": "u-shaped", "loss": "huber"},
    "E": {"from_teacher": True, "time": "u-shaped", "loss": "lpips-huber", "divt": False},
    "F": {"from_teacher": True, "time": "u-shaped", "loss": "lpips-huber", "divt": True},
}


@dataclass(frozen=True)
class Experiment:
    """One data set with everything that is held equal between the rows."""

    name: str
    features: str
    network: dict[str, Any]
    teacher_steps: int
    student_steps: int
    num_pairs: int
    rows: tuple[str, ...] = tuple(ROWS)
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 128
    lr: float = 1e-3
    warmup_steps: int = 0
    ema: float = 0.999
    precision: str = "32-true"
    num_samples: int = 2000
    teacher: str | None = None  # a model of the zoo instead of a teacher trained here
    pair_steps: int = 18
    score_batch: int = field(default=500, repr=False)

    def images(self) -> Digits | FashionMNIST:
        """The real images that a teacher learns from and that samples are compared with."""
        return Digits() if self.name == "digits" else FashionMNIST("train")

    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(lr=self.lr, warmup_steps=self.warmup_steps)


DIGITS = Experiment(
    name="digits",
    features="features-digits",
    network={"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "hidden": 512, "num_blocks": 5},
    teacher_steps=10_000,
    student_steps=30_000,
    num_pairs=200_000,
)
FASHION = Experiment(
    name="fashion_mnist",
    features="features-fashion",
    network={},
    teacher_steps=0,
    student_steps=1500,
    num_pairs=5000,
    rows=("A", "C", "F"),
    seeds=(0,),
    batch_size=64,
    warmup_steps=100,
    ema=0.995,
    precision="bf16-mixed",
    num_samples=500,
    teacher="rf-fashion-edm",
    pair_steps=12,
    score_batch=100,
)


def run_seed(experiment: Experiment, seed: int, folder: Path, source: Path | None = None) -> dict[str, Any]:
    """Train and score everything of one seed in `folder`; returns the scores, which are also written to it.

    `source` is the folder of a finished run whose teacher and pairs are used; None: they are made in `folder`.
    """
    # Scores of an earlier run of the same recipe stay.
    check_same_recipe(experiment, folder / "recipe.json")
    scores_file = folder / "scores.json"
    scores = json.loads(scores_file.read_text()) if scores_file.is_file() else {}

    # The teacher and its pairs.
    teacher_name = _teacher(experiment, seed, source or folder)
    teacher = load_as(EDMDenoiser, teacher_name)
    measure = Measure(experiment, seed)
    if "teacher" not in scores:
        scores["teacher"] = measure.teacher(teacher)
        write_json(scores_file, scores)
    pairs = ReflowPairs(
        teacher=teacher_name,
        num_pairs=experiment.num_pairs,
        steps=experiment.pair_steps,
        pair_seed=seed,
        seed=seed,
        path=str((source or folder) / "pairs"),
        batch_size=experiment.batch_size,
    )

    # A student for each row.
    for row in experiment.rows:
        if row not in scores:
            student = _student(experiment, row, seed, teacher_name, teacher, pairs, folder / row)
            scores[row] = measure.student(student, pairs)
            write_json(scores_file, scores)
    if "pairs" not in scores["teacher"]:
        scores["teacher"]["pairs"] = measure.pairs(pairs)
        write_json(scores_file, scores)
    return scores


def _teacher(experiment: Experiment, seed: int, folder: Path) -> str:
    if experiment.teacher is not None:
        return experiment.teacher
    model_folder = folder / "teacher"
    if not (model_folder / "config.json").is_file():
        torch.manual_seed(seed)
        task = TeacherTask(experiment.network, experiment.optimizer(), seed=seed)
        data = ImageData(experiment.images(), experiment.batch_size, seed=seed)
        _train(experiment, task, data, experiment.teacher_steps, model_folder)
    return str(model_folder)


def _student(
    experiment: Experiment,
    row: str,
    seed: int,
    teacher_name: str,
    teacher: EDMDenoiser,
    pairs: ReflowPairs,
    model_folder: Path,
) -> EDMVelocity:
    if not (model_folder / "config.json").is_file():
        options = dict(ROWS[row])
        from_teacher = options.pop("from_teacher")
        torch.manual_seed(seed)
        task = ReflowTask(
            experiment.optimizer(),
            init=teacher_name if from_teacher else None,
            network=None if from_teacher else teacher.model.config,
            perceptual=experiment.features if options["loss"].startswith("lpips") else None,
            seed=seed,
            **options,
        )
        _train(experiment, task, pairs, experiment.student_steps, model_folder)
    return load_as(EDMVelocity, model_folder)


def _train(experiment: Experiment, task: Any, data: Any, steps: int, model_folder: Path) -> None:
    model = fit(task, data, max_steps=steps, ema=experiment.ema, precision=experiment.precision)
    model.save_pretrained(model_folder)


class Measure:
    """Scores of models against the real images of an experiment, from noise that all rows share.

    Models with classes draw every class equally often.
    """

    def __init__(self, experiment: Experiment, seed: int):
        self.experiment = experiment
        self.features = load_as(FeatureCNN, experiment.features).features
        self.reference = feature_statistics(self._features(to_float(experiment.images().images)))
        self.generator_keys = (SAMPLE_KEY, seed)

    def teacher(self, model: EDMDenoiser) -> dict[str, Any]:
        """Distances of the teacher by its own sampler and used directly as a velocity."""
        velocity = EDMVelocity(model.model, sigma_data=model.sigma_data).eval()
        steps = self.experiment.pair_steps
        heun = [edm_sample(model, z, steps, class_labels=labels).x.float() for z, labels in self._draws(model)]
        return {"heun": self._distance(torch.cat(heun)), **self.few_steps(velocity)}

    def student(self, model: EDMVelocity, pairs: ReflowPairs) -> dict[str, Any]:
        """Distances in few steps, straightness, and the loss against t."""
        return {**self.few_steps(model), "loss_against_t": loss_against_t(model, pairs)}

    def pairs(self, pairs: ReflowPairs) -> dict[str, float]:
        """How many different 8-bit images the pairs hold, and the share that copies a real one."""
        images = to_uint8(pairs.first(self.experiment.num_pairs).image).flatten(1)
        real = self.experiment.images().images.flatten(1).float()
        chunks = images[:COPY_SAMPLES].float().split(self.experiment.score_batch)
        nearest = torch.cat([torch.cdist(chunk, real).topk(2, largest=False).values for chunk in chunks])
        copied = nearest[:, 0] < COPY_RATIO * nearest[:, 1]
        return {"images": len(images), "distinct": len(images.unique(dim=0)), "copies": copied.float().mean().item()}

    def few_steps(self, model: EDMVelocity) -> dict[str, Any]:
        """Distances at 1, 2 and 5 steps, and the straightness of long trajectories."""
        distances = {}
        for steps in FEW_STEPS:
            images = [sample(model, z, steps, class_labels=labels).x for z, labels in self._draws(model)]
            distances[str(steps)] = self._distance(torch.cat(images))
        noise, labels = self._draws(model)[0]
        trajectory = sample(model, noise, STRAIGHTNESS_STEPS, rule="default", class_labels=labels)
        return {"distance": distances, "straightness": trajectory.straightness().mean().item()}

    def _draws(self, model: EDMDenoiser | EDMVelocity) -> list[tuple[Tensor, Tensor | None]]:
        """Batches of noise [B, C, H, W] and classes [B], or None for a model without classes."""
        count, size = self.experiment.num_samples, self.experiment.score_batch
        noise = torch.randn((count, *model.sample_shape), generator=generator_for(*self.generator_keys)).split(size)
        if not model.label_dim:
            return [(z, None) for z in noise]
        return list(zip(noise, (torch.arange(count) % model.label_dim).split(size), strict=True))

    def noise(self, model: EDMDenoiser | EDMVelocity, count: int) -> Tensor:
        """The first `count` noises of the scores [count, C, H, W]."""
        return self._draws(model)[0][0][:count]

    def _distance(self, images: Tensor) -> float:
        # Scores are of 8-bit pictures, as for every FID; this clamps the few samples that leave the range.
        images = to_float(to_uint8(images))
        return float(frechet_distance(*self.reference, *feature_statistics(self._features(images))))

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return torch.cat([self.features(chunk) for chunk in images.split(self.experiment.score_batch)])


@torch.no_grad()
def loss_against_t(model: EDMVelocity, pairs: ReflowPairs, count: int = 1000) -> list[float]:
    """Mean squared error of the velocity in the middle of each of 20 equal intervals of [0, 1]."""
    batch = pairs.first(count)
    losses = []
    for bin_ in range(BINS):
        t = torch.full((len(batch),), (bin_ + 0.5) / BINS)
        prediction = model(PATH.at(batch.image, batch.noise, t), t, batch.label if model.label_dim else None)
        error = prediction - PATH.velocity(batch.image, batch.noise)
        losses.append(error.square().mean().item())
    return losses
