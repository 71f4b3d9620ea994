"""The validation metric of generative tasks: how far drawn images are from real ones, in the features of a network.

Images are drawn in the validation that follows every n-th update, with the averaged weights and from noise that never
changes: image i is keyed by i alone, so the figure depends neither on the number of processes nor on the batch size.
"""

from typing import Any, Protocol

import torch
from lightning import Trainer
from torch import Tensor

from visionseq.data.seeding import generator_for
from visionseq.errors import ConfigError, import_extra
from visionseq.flow.drawing import draw_images
from visionseq.viz import to_uint8
from visionseq.zoo.feature_network import feature_network

SAMPLE_SEED = 1_000_033  # keeps the noise of the metric away from that of training and validation


class DrawingTask(Protocol):
    """The parts of a task that the metric uses: model, noise, and the number of the process."""

    model: Any  # a PretrainedModel with a sampler

    @property
    def device(self) -> torch.device: ...

    @property
    def global_rank(self) -> int: ...

    @property
    def trainer(self) -> Trainer: ...

    def noise(self, n: int, generator: torch.Generator) -> Tensor: ...


class SampleFrechet:
    """Frechet distance of drawn and real 8-bit images; with Inception features the FID (arXiv 1706.08500).

    Args:
        features: name in the zoo or model folder of a feature network, or inception:FILE.
        every_n_steps: updates between two measurements; each takes place in the first validation at or after a multiple
            of it, and there is one in a validation at the end of the training. `validate` and `test` always measure.
        num_samples: images that are drawn for each figure.
        steps: of the sampler, with a figure for each; None: the sampler's own number.
        reference: npz with mean and covariance of real features; None: the images of the evaluation data.
        batch_size: images that are drawn at once in each process.

    Raises `ConfigError` for numbers that make no measurement, and for a model without a feature layer.
    """

    def __init__(
        self,
        features: str,
        every_n_steps: int = 1000,
        num_samples: int = 1000,
        steps: list[int] | None = None,
        reference: str | None = None,
        batch_size: int = 250,
    ):
        if every_n_steps < 1 or num_samples < 2 or batch_size < 1:
            raise ConfigError(
                f"every_n_steps {every_n_steps}, num_samples {num_samples}, batch_size {batch_size}: expected at least "
                "1, 2 and 1"
            )
        import_extra("torchmetrics", "train")
        from visionseq.metrics.image_scores import FrechetDistance

        self.every_n_steps, self.num_samples, self.batch_size = every_n_steps, num_samples, batch_size
        self.figures = {f"frechet_{number}_steps": {"steps": number} for number in steps or ()} or {"frechet": {}}
        self.distance = FrechetDistance(feature_network(features), reference)
        self.last_step = 0  # of the training, at the latest measurement

    def check_data(self, model: Any, data: Any) -> None:
        """Raise `ConfigError` where the network does not take the model's images, or no validation would take place."""
        if data.eval_source() is None:
            raise ConfigError(
                "metric: without evaluation data no validation takes place in which it could measure; give the data an "
                "eval_dataset or eval_path"
            )
        self.distance.features(torch.zeros(2, *model.sample_shape, dtype=torch.uint8).to(_device(self.distance)))

    def due(self, trainer: Trainer) -> bool:
        """Whether the validation or test at hand measures."""
        if trainer.state.fn != "fit":
            return True
        step = trainer.global_step
        passed = step // self.every_n_steps > self.last_step // self.every_n_steps
        return not trainer.sanity_checking and (passed or step == trainer.max_steps)

    def add_real(self, images: Tensor) -> None:
        """Take in images [B, C, H, W] in [-1, 1] of the evaluation data; nothing where there is a reference."""
        if self.distance.reference is None:
            self.distance.to(images.device).update(to_uint8(images), real=True)

    @torch.no_grad()
    def measure(self, task: DrawingTask) -> dict[str, Tensor]:
        """The figures by name, the same in every process: `frechet`, or `frechet_5_steps` and the like."""
        self.distance.to(task.device)
        distances = {}
        for name, options in self.figures.items():
            self.distance.generated = torch.zeros_like(self.distance.generated)
            self._draw(task, options)
            distances[name] = self.distance.compute()
        self.distance.reset()
        self.last_step = task.trainer.global_step
        return distances

    @property
    def names(self) -> list[str]:
        """The names of the figures."""
        return list(self.figures)

    def state_dict(self) -> dict[str, int]:
        """The state for a resumed run."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a run stopped; a checkpoint without this metric begins anew."""
        self.last_step = state.get("last_step", 0)

    def _draw(self, task: DrawingTask, options: dict[str, int]) -> None:
        """Take in this process's share of the drawn images."""
        numbers = range(self.num_samples)[task.global_rank :: task.trainer.world_size]
        model = task.model
        for first in range(0, len(numbers), self.batch_size):
            chosen = numbers[first : first + self.batch_size]
            generators = [generator_for(SAMPLE_SEED, number) for number in chosen]
            noise = torch.cat([task.noise(1, generator) for generator in generators])
            labels = torch.tensor(chosen, device=task.device) % model.label_dim if model.label_dim else None
            images = draw_images(model, noise.to(task.device), generators, labels, **options)
            self.distance.update(to_uint8(images), real=False)


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
