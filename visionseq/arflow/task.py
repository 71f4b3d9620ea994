"""Training of ARFlow (arXiv 2501.16085) on class-balanced sequences. Clock of the room: t = 0 is noise, t = 1 is data.

The optimiser of the official recipe is in `configs/arflow`: AdamW whose weight decay leaves biases alone, gradients
clipped value by value, an average of the weights without a ramp.
"""

from typing import Any

import torch
from torch import Tensor

from visionseq.arflow.loss import sequence_losses, sorted_times
from visionseq.arflow.model import ARFlow
from visionseq.arflow.sequences import SequenceBatch
from visionseq.errors import ConfigError
from visionseq.flow.sample_frechet import SampleFrechet
from visionseq.flow.task import Draw, GenerativeTask
from visionseq.optim.factory import OptimizerConfig


class ARFlowTask(GenerativeTask[SequenceBatch]):
    """Velocity training on sequences; the data are those of `visionseq.arflow.SequenceData`.

    Args:
        network: arguments of `ARFlow` by name.
        optimizer: AdamW.
        seed: keys every random number of the training.
        sample_steps: steps of the sampler for the pictures in the log.
        metric: measured by validation and test besides the loss.

    Raises `ConfigError` for an argument that the network does not have.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: OptimizerConfig,
        seed: int = 0,
        sample_steps: list[int] = [50],  # noqa: B006 (read only; a config shows a plain list)
        metric: SampleFrechet | None = None,
    ):
        super().__init__(_network(network), optimizer, seed, sample_steps, metric)

    def loss(self, batch: SequenceBatch, draw: Draw) -> Tensor:
        rows, images = batch.image.shape[:2]
        noise = draw(lambda n, generator: self._noises(n, images, generator), rows).to(self.device)
        uniform_BS = draw(lambda n, generator: torch.rand(n, images, generator=generator), rows).to(self.device)
        labels_B = self._dropped(self.labels(batch), draw)
        return sequence_losses(self.model, batch.image, noise, sorted_times(uniform_BS), labels_B).mean()

    def real_images(self, batch: SequenceBatch) -> Tensor:
        """The first images [B, C, H, W] of the sequences: each image of the data once."""
        return batch.image[:, 0]

    def _noises(self, n: int, images: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise [n, S, C, H, W] on the CPU."""
        return self.noise(n * images, generator).unflatten(0, (n, images))

    def _dropped(self, labels_B: Tensor | None, draw: Draw) -> Tensor:
        """The classes in training, some replaced by "no class": one draw for all images of a sequence."""
        assert labels_B is not None, "the model has classes, and so have its batches"
        share = self.model.class_dropout_prob
        if not (self.training and share):
            return labels_B
        drop_B = draw(lambda n, generator: torch.rand(n, generator=generator) < share, len(labels_B))
        return labels_B.masked_fill(drop_B.to(self.device), self.model.null_label)


def _network(arguments: dict[str, Any]) -> ARFlow:
    try:
        return ARFlow(**arguments)
    except TypeError as error:
        raise ConfigError(f"network: {error}") from error
