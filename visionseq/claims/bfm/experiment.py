"""The runs behind the claim of `bfm`: an encoder, five flows, an FRN, and their scores.

Every stage leaves a file and is skipped where that exists, so an interrupted claim goes on where it stopped. All flows
have as many blocks in a step, the same optimiser, updates and images, and the same scale of their label table; two rows
repeat the comparison at another scale, because it moves the figures.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visionseq.bfm.flops import measured_flops, step_flops
from visionseq.bfm.model import BFM
from visionseq.bfm.sampling import plan
from visionseq.bfm.stages import with_frn
from visionseq.bfm.task import BFMTask, FRNTask
from visionseq.claims.bfm.single_stack import SingleStack, SingleStackTask
from visionseq.claims.recipe import check_same_recipe
from visionseq.data.batch import ImageBatch
from visionseq.data.digits import Digits
from visionseq.data.image_data import ImageData
from visionseq.data.seeding import GlobalDraw, generator_for
from visionseq.files import write_json
from visionseq.flow.task import GenerativeTask
from visionseq.metrics.features import FeatureCNN
from visionseq.metrics.frechet import feature_statistics, frechet_distance
from visionseq.metrics.task import FeatureTask
from visionseq.optim.factory import OptimizerConfig
from visionseq.saving.model_folder import is_model_folder
from visionseq.saving.weights import load_state, read_safetensors, write_safetensors
from visionseq.training import fit
from visionseq.zoo.loading import load_as

SAMPLE_KEY = 7_000_019  # keeps the noise of the scores away from that of training
ENCODER_KEY = 1000  # the encoder has another seed than the evaluator
OTHER_SCALE = 1.0  # of the label table, as nn.Embedding begins


@dataclass(frozen=True)
class Experiment:
    """What is held equal between the rows."""

    context_size: int = 8
    patch_size: int = 2
    hidden_size: int = 64
    num_heads: int = 4
    segments: int = 4
    segment_depth: int = 2
    feature_alignment_depth: int = 3
    adaln_lora_dim: int = 16
    frn_depth: int = 1
    projector_hidden: int = 128
    class_dropout_prob: float = 0.1
    encoder_widths: tuple[int, ...] = (32, 48)
    evaluator: str = "features-digits"
    label_scale: float = 0.02
    alignment_weight: float = 0.5
    encoder_steps: int = 600
    flow_steps: int = 12_000
    frn_steps: int = 2_000
    batch_size: int = 128
    lr: float = 1e-3
    ema: float = 0.998
    num_samples: int = 1800
    steps: tuple[int, ...] = (4, 8, 16)
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def network(self) -> dict[str, Any]:
        """The arguments of `BFM`."""
        names = [
            *("context_size", "patch_size", "hidden_size", "num_heads", "segments", "segment_depth"),
            *("feature_alignment_depth", "adaln_lora_dim", "projector_hidden", "class_dropout_prob"),
        ]
        sizes = {name: getattr(self, name) for name in names}
        norms = {"q_norm": "RMSNorm", "k_norm": "RMSNorm"}
        return {**sizes, **norms, "in_channels": 1, "num_classes": 10, "dim_projection": self.encoder_widths[-1]}

    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(lr=self.lr, name="adamw")


DIGITS = Experiment()


def run_seed(experiment: Experiment, seed: int, folder: Path) -> dict[str, Any]:
    """Train and score everything of one seed in `folder`; returns the scores, which are also written to it."""
    check_same_recipe(experiment, folder / "recipe.json")
    scores_file = folder / "scores.json"
    scores = json.loads(scores_file.read_text()) if scores_file.is_file() else {}
    runs = Runs(experiment, seed, folder)
    rows: dict[str, Callable[[], BFM | SingleStack]] = {
        "one stack": lambda: runs.stack(experiment.label_scale),
        "BFM": lambda: runs.flow(None, experiment.label_scale),
        "BFM + SF": lambda: runs.flow(runs.encoder(), experiment.label_scale),
        "BFM + SF + RA": runs.approximated,
        "one stack, other labels": lambda: runs.stack(OTHER_SCALE),
        "BFM + SF, other labels": lambda: runs.flow(runs.encoder(), OTHER_SCALE),
    }
    for row, trained in rows.items():
        if row not in scores:
            scores[row] = measure(experiment, trained())
            write_json(scores_file, scores)
    if "FRN loss" not in scores:
        scores["FRN loss"] = runs.residual_losses()
        write_json(scores_file, scores)
    return scores


class Runs:
    """The trained models of one seed, each kept in `folder`."""

    def __init__(self, experiment: Experiment, seed: int, folder: Path):
        self.experiment, self.seed, self.folder = experiment, seed, folder

    def encoder(self) -> str:
        """The folder of the classifier that features are aligned with."""
        path = self.folder / "encoder"
        if not is_model_folder(path):
            torch.manual_seed(self.seed + ENCODER_KEY)
            task = FeatureTask(OptimizerConfig(lr=3e-3), widths=self.experiment.encoder_widths, label_smoothing=0.1)
            data = ImageData(Digits("train"), 64, seed=self.seed + ENCODER_KEY)
            fit(task, data, max_steps=self.experiment.encoder_steps, ema=None, progress=False).save_pretrained(path)
        return str(path)

    def stack(self, label_scale: float) -> SingleStack:
        """The baseline with as many blocks as BFM has in a step."""
        sizes = self.experiment.network
        shared = ("context_size", "patch_size", "in_channels", "hidden_size", "num_heads", "num_classes")
        depth = self.experiment.feature_alignment_depth + self.experiment.segment_depth
        torch.manual_seed(self.seed)
        arguments = {name: sizes[name] for name in (*shared, "class_dropout_prob")}
        model = _with_labels(SingleStack(**arguments, depth=depth), label_scale)
        task = SingleStackTask(model, self.experiment.optimizer(), self.seed)
        self._train(task, f"stack-{label_scale}", self.experiment.flow_steps)
        return model.eval()

    def flow(self, encoder: str | None, label_scale: float) -> BFM:
        """BFM of the first stage, with an encoder or without."""
        name = f"flow-{label_scale}{'' if encoder is None else '-aligned'}"
        if not is_model_folder(self.folder / name):
            torch.manual_seed(self.seed)
            weight, optimizer = self.experiment.alignment_weight, self.experiment.optimizer()
            task = BFMTask(self.experiment.network, optimizer, encoder, weight, self.seed)
            _with_labels(task.model, label_scale)
            self._fit(task, self.experiment.flow_steps).save_pretrained(self.folder / name)
        return load_as(BFM, self.folder / name)

    def approximated(self) -> BFM:
        """The aligned BFM with an FRN."""
        path = self.folder / "frn"
        if not is_model_folder(path):
            torch.manual_seed(self.seed)
            optimizer = self.experiment.optimizer()
            task = FRNTask(self._first_stage(), optimizer, self.experiment.frn_depth, self.seed)
            self._fit(task, self.experiment.frn_steps).save_pretrained(path)
        return load_as(BFM, path)

    def residual_losses(self) -> dict[str, float]:
        """The loss of the FRN before its training and after it, on all digits."""
        torch.manual_seed(self.seed)
        return {
            "first": self._residual_loss(with_frn(self._first_stage(), self.experiment.frn_depth)),
            "last": self._residual_loss(self.approximated()),
        }

    def _first_stage(self) -> str:
        self.flow(self.encoder(), self.experiment.label_scale)
        return str(self.folder / f"flow-{self.experiment.label_scale}-aligned")

    @torch.no_grad()
    def _residual_loss(self, model: BFM) -> float:
        task = FRNTask(self._first_stage(), self.experiment.optimizer(), self.experiment.frn_depth)
        task.model = model
        digits = Digits()
        batch = ImageBatch(digits.images, digits.labels, torch.arange(len(digits)))
        return task.loss(batch, GlobalDraw(SAMPLE_KEY)).item()

    def _train(self, task: GenerativeTask, name: str, steps: int) -> None:
        """Train a model that no folder can name, or read its weights."""
        file = self.folder / f"{name}.safetensors"
        if not file.is_file():
            write_safetensors(file, self._fit(task, steps).state_dict())
        load_state(task.model, read_safetensors(file), file)

    def _fit(self, task: GenerativeTask, steps: int) -> Any:
        data = ImageData(Digits(), self.experiment.batch_size, seed=self.seed)
        return fit(task, data, max_steps=steps, ema=self.experiment.ema, progress=False)


@torch.no_grad()
def measure(experiment: Experiment, model: BFM | SingleStack) -> dict[str, Any]:
    """Parameters of a model, and at each number of steps its FLOPs, Frechet distance and agreement with the classes.

    The stack has two figures for a number of steps: its own, and under `equal` that at the fewest steps which cost at
    least the FLOPs of BFM.
    """
    evaluator = load_as(FeatureCNN, experiment.evaluator)
    reference = feature_statistics(evaluator.features(Digits().images))
    noise = torch.randn(experiment.num_samples, *model.sample_shape, generator=generator_for(SAMPLE_KEY))
    labels = torch.arange(experiment.num_samples) % model.label_dim

    def scored(steps: int) -> dict[str, float]:
        parts = zip(noise.split(450), labels.split(450), strict=True)
        images = torch.cat([model.sample(z, steps, y) for z, y in parts]).clamp(-1, 1)
        distance = frechet_distance(*reference, *feature_statistics(evaluator.features(images)))
        agreement = (evaluator(images).argmax(1) == labels).float().mean().item()
        return {"flops": sampler_flops(model, steps), "distance": float(distance), "agreement": agreement}

    figures: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    figures["steps"] = {str(steps): scored(steps) for steps in experiment.steps}
    if isinstance(model, SingleStack):
        bfm = step_flops(BFM(**experiment.network).config).full
        enough = {steps: -(-steps * bfm // sampler_flops(model, 1)) for steps in experiment.steps}
        figures["equal"] = {str(steps): scored(number) for steps, number in enough.items()}
    return figures


def sampler_flops(model: BFM | SingleStack, steps: int) -> int:
    """FLOPs of an image in so many steps."""
    if isinstance(model, BFM):
        calls = plan(model.segments, steps // model.segments, frn=model.has_frn)
        return step_flops(model.config).sampler(calls)
    x = torch.zeros(1, *model.sample_shape)
    return steps * measured_flops(lambda: model(x, torch.zeros(1), torch.zeros(1, dtype=torch.long)))


def _with_labels(model: Any, scale: float) -> Any:
    """The model with a label table of standard deviation `scale`, from torch's generator."""
    nn.init.normal_(model.y_embedder.embedding_table.weight, std=scale)
    return model
