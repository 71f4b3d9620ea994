"""The base of generative tasks: draws, labels, losses, pictures, predictions and an optional metric.

A room writes `loss`. Every random number of a training step comes from one generator keyed by the seed and the batches
finished before, drawn for the global batch, so a run does not depend on the number of processes and resumes without any
generator state. In evaluation the draws of a sample depend on its index alone, so `val/loss` depends neither on the
number of processes nor on the batch size.

Legend: B batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics import MeanMetric

from visionseq.data.batch import ImageBatch, PairBatch
from visionseq.data.seeding import GlobalDraw, batches_done, generator_for
from visionseq.data_check import ImageModel, check_images, check_resumed_classes, class_names_of, data_module_of
from visionseq.errors import ConfigError
from visionseq.flow.drawing import draw_images
from visionseq.flow.sample_frechet import SampleFrechet
from visionseq.optim.factory import OptimizerConfig
from visionseq.saving.pretrained import PretrainedModel

VALIDATION_SEED = 1_000_003  # keeps the draws of validation away from those of training

GenerativeBatch = TypeVar("GenerativeBatch", bound=ImageBatch | PairBatch)


class Draw(Protocol):
    """Source of a step's random numbers."""

    def __call__(self, fn: Callable[[int, torch.Generator], Tensor], n: int) -> Tensor:
        """`fn(rows, generator) -> [rows, ...]` for the n rows of this batch."""


class RowDraw:
    """Random numbers of each row by itself: row i draws from a generator keyed by (seed, index of the sample).

    Args:
        seed: key of all rows.
        index: int64 [B], the place of each sample in its data set.
    """

    def __init__(self, seed: int, index: Tensor):
        self.generators = [generator_for(seed, number) for number in index.tolist()]

    def __call__(self, fn: Callable[[int, torch.Generator], Tensor], n: int) -> Tensor:
        return torch.cat([fn(1, generator) for generator in self.generators])


class GenerativeTask(LightningModule, Generic[GenerativeBatch]):
    """The training of a generative model, except its loss.

    Args:
        model: the model in training, with `sample(noise, steps, class_labels=...)`, `sample_shape`, `label_dim`.
        optimizer: optimiser, schedule and warm-up.
        seed: keys every random number of the training.
        sample_steps: steps of the sampler for the pictures in the log, a column each.
        metric: measured by validation and test besides the loss.
    """

    model: Any  # a PretrainedModel with a sampler

    def __init__(
        self,
        model: PretrainedModel,
        optimizer: OptimizerConfig,
        seed: int = 0,
        sample_steps: Sequence[int] = (1,),
        metric: SampleFrechet | None = None,
    ):
        super().__init__()
        self.model, self.optimizer_config, self.seed = model, optimizer, seed
        self.sample_steps, self.sample_columns = list(sample_steps), len(sample_steps)
        # Frozen and not part of the model: kept out of the module tree, and so out of checkpoints.
        self._metrics = [] if metric is None else [metric]
        self._mean_loss = MeanMetric()

    def loss(self, batch: GenerativeBatch, draw: Draw) -> Tensor:
        """Mean loss of a batch, every random number taken from `draw`."""
        raise NotImplementedError

    def check_data(self, data: Any) -> None:
        """Compare a data module with the model and the metric; `ConfigError` where they do not match."""
        model: Any = self.model
        names = class_names_of(model.preprocessing)
        check_images(ImageModel(type(model).__name__, tuple(model.sample_shape), model.label_dim, names), data)
        for metric in self._metrics:
            metric.check_data(model, data)

    def setup(self, stage: str) -> None:
        data = data_module_of(self.trainer)
        if data is not None:
            self.check_data(data)

    def training_step(self, batch: GenerativeBatch, batch_idx: int) -> Tensor:
        keys = self.seed, batches_done(self.trainer)
        return self.loss(batch, GlobalDraw(*keys, rank=self.global_rank, world=self.trainer.world_size))

    def validation_step(self, batch: GenerativeBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: GenerativeBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def predict_step(self, batch: GenerativeBatch, batch_idx: int) -> Tensor:
        """One generated image per row of the batch, [B, C, H, W] in [-1, 1], with the classes of the batch."""
        draw = _draw_by_row(batch)
        noise = draw(self.noise, len(batch)).to(self.device)
        return draw_images(self.model, noise, draw.generators, self.labels(batch))

    def configure_optimizers(self) -> Any:
        # A trial of a few batches ends within the warm-up, after which a cosine needs steps.
        is_trial = getattr(self.trainer, "fast_dev_run", False)  # which Lightning sets without declaring it
        beyond = self.optimizer_config.warmup_steps if is_trial else 0
        return self.optimizer_config.build(self.model.parameters(), self.trainer.max_steps + beyond)

    @torch.no_grad()
    def sample_images(self, rows: int = 8) -> Tensor:
        """One column per entry of `sample_steps`, from noise that never changes: [rows * columns, C, H, W]."""
        noise = self.noise(rows, generator_for(VALIDATION_SEED)).to(self.device)
        labels = torch.arange(rows, device=self.device) % self.model.label_dim if self.model.label_dim else None
        columns = [
            draw_images(self.model, noise, generator_for(VALIDATION_SEED, 1), labels, steps=steps)
            for steps in self.sample_steps
        ]
        return torch.stack(columns, 1).flatten(0, 1)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise [n, C, H, W] on the CPU."""
        return torch.randn((n, *self.model.sample_shape), generator=generator)

    def labels(self, batch: GenerativeBatch) -> Tensor | None:
        """The classes of a batch where the model has classes; `ConfigError` where the batch has none."""
        if not self.model.label_dim:
            return None
        if batch.label is None:
            raise ConfigError(f"the model is conditional on {self.model.label_dim} classes, the data has no labels")
        return batch.label

    def real_images(self, batch: GenerativeBatch) -> Tensor:
        """The images [B, C, H, W] of an evaluation batch that a metric compares with drawn ones."""
        return batch.image

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for metric in self._metrics:
            checkpoint["metric"] = metric.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.model.label_dim:
            check_resumed_classes(data_module_of(self.trainer), checkpoint)
        for metric in self._metrics:
            metric.load_state_dict(checkpoint.get("metric", {}))

    def _evaluate(self, batch: GenerativeBatch) -> None:
        self._mean_loss.update(self.loss(batch, _draw_by_row(batch)), len(batch))
        for metric in self._metrics:
            if metric.due(self.trainer):
                metric.add_real(self.real_images(batch))

    def _report(self, stage: str) -> None:
        """Log the mean loss and the metric; every process comes here, because each has at least one batch."""
        self.log(f"{stage}/loss", self._mean_loss.compute(), prog_bar=True)
        self._mean_loss.reset()
        for metric in self._metrics:
            if metric.due(self.trainer):
                self.log_dict({f"{stage}/{name}": value for name, value in metric.measure(self).items()})
            else:  # the trainer would go on to show the figures of an earlier validation
                for name in metric.names:
                    self.trainer.callback_metrics.pop(f"{stage}/{name}", None)


def _draw_by_row(batch: ImageBatch | PairBatch) -> RowDraw:
    """The draws of an evaluation; `ConfigError` for batches that do not number their samples."""
    if batch.index is None:
        raise ConfigError("the batches have no `index`, which keys the random numbers of an evaluation")
    return RowDraw(VALIDATION_SEED, batch.index)
