"""Training of SiT on images or cached latents (arXiv 2401.08740); all but the loss is in `visionseq.flow.task`.

Clock: t = 0 is noise, t = 1 is data.
"""

from typing import Any

import torch
from torch import Tensor

from visionseq.data.batch import ImageBatch
from visionseq.errors import ConfigError
from visionseq.flow.sample_frechet import SampleFrechet
from visionseq.flow.task import Draw, GenerativeTask
from visionseq.optim.factory import OptimizerConfig
from visionseq.sit.convert import build
from visionseq.sit.losses import WEIGHTS, Weight, prediction_loss, training_times


class SiTTask(GenerativeTask[ImageBatch]):
    """Regression of a velocity, a score or the noise at uniform times, with label dropout.

    Args:
        network: the arguments of `SiT` by name; `path` and `prediction` among them say what is learned.
        optimizer: AdamW and its warm-up.
        loss_weight: of scores and noises: none, velocity or likelihood.
        seed: keys every random number of the training.
        sample_steps: steps of the Heun sampler for the pictures in the log, a column each.
        metric: measured by validation and test besides the loss.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: OptimizerConfig,
        loss_weight: Weight = "none",
        seed: int = 0,
        sample_steps: list[int] = [2, 5, 20],  # noqa: B006 (read only; a config shows a plain list)
        metric: SampleFrechet | None = None,
    ):
        super().__init__(build(network), optimizer, seed, sample_steps, metric)
        if loss_weight not in WEIGHTS:
            raise ConfigError(f"loss_weight {loss_weight!r}, expected one of {', '.join(WEIGHTS)}")
        self.loss_weight: Weight = loss_weight

    def loss(self, batch: ImageBatch, draw: Draw) -> Tensor:
        # Noise, times and dropped labels of the batch.
        model, data, labels = self.model, batch.image, self.labels(batch)
        noise = draw(self.noise, len(batch)).to(self.device)
        t_B = training_times(draw(_uniform, len(batch)).to(self.device), model.path, model.prediction)
        dropped = draw(_uniform, len(batch)).to(self.device) < model.y_embedder.dropout if model.training else None

        output = model(model.path.at(data, noise, t_B), t_B, labels, dropped)
        losses_B = prediction_loss(output, data, noise, t_B, model.path, model.prediction, self.loss_weight)
        return losses_B.mean()


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator)
