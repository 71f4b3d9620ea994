"""The two stages of BFM (arXiv 2510.21167): the flow with aligned features, then the approximation of these features.

In training the rows of a batch are cut by position into one part for each segment, of the global batch, so that a run
does not depend on the number of processes. In evaluation the segment of a sample depends on its index alone.
"""

from typing import Any

import torch
from torch import Tensor

from visionseq.bfm.data import PixelBatch
from visionseq.bfm.encoder import Encoder, encoder_from
from visionseq.bfm.losses import Rows, alignment_loss, flow_and_projection, residual_loss
from visionseq.bfm.model import BFM, build_bfm
from visionseq.bfm.schedule import segments_by_position, times_within
from visionseq.bfm.stages import with_frn
from visionseq.data.batch import ImageBatch
from visionseq.errors import ConfigError
from visionseq.flow.sample_frechet import SampleFrechet
from visionseq.flow.task import Draw, GenerativeTask
from visionseq.optim.factory import OptimizerConfig


class BlockwiseTask(GenerativeTask[ImageBatch]):
    """What both stages share: random numbers, rows ordered by segments, the check of the processes."""

    model: BFM

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            _check_rows(self.trainer, self.model.segments)

    def draw_rows(self, batch: ImageBatch, draw: Draw) -> tuple[Rows, Tensor]:
        """The batch with its random numbers, in the order of the segments, and this order int64 [B]."""
        n, model = len(batch), self.model
        noise = draw(self.noise, n)
        segment = draw(self._segments, n)
        t = times_within(segment, draw(_uniform, n), model.segments)
        labels, drop = self.labels(batch), None
        assert labels is not None  # the model has classes
        if self.training and model.class_dropout_prob:
            drop = draw(_uniform, n) < model.class_dropout_prob
        # In training the rows are in order already.
        order = segment.argsort(stable=True)
        place = order.to(self.device)
        noise, t = (value[order].to(self.device) for value in (noise, t))
        drop = None if drop is None else drop[order].to(self.device)
        return Rows(batch.image[place], noise, t, segment[order], labels[place], drop), place

    def _segments(self, n: int, generator: torch.Generator) -> Tensor:
        if self.training:
            return segments_by_position(n, self.model.segments)
        return torch.randint(self.model.segments, (n,), generator=generator)


class BFMTask(BlockwiseTask):
    """The first stage: the flow, with features aligned with the tokens of a frozen network.

    Args:
        network: the arguments of `BFM` by name.
        optimizer: optimiser, schedule and warm-up.
        encoder: what the features are aligned with: `dinov2-vit-b:FILE` or the name of a feature network; it sees the
            images themselves, which data of latents must have beside them (`LatentsWithImages`). None: no alignment.
        alignment_weight: lambda.
        seed: keys every random number of the training.
        sample_steps: steps of the pictures in the log, multiples of the number of segments.
        metric: measured by validation and test besides the loss.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: OptimizerConfig,
        encoder: str | None = None,
        alignment_weight: float = 0.05,
        seed: int = 0,
        sample_steps: list[int] = [24],  # noqa: B006 (read only; a config shows a plain list)
        metric: SampleFrechet | None = None,
    ):
        if network.get("finetune"):
            raise ConfigError("network: finetune belongs to the second stage, which FRNTask trains")
        super().__init__(build_bfm(network), optimizer, seed, sample_steps, metric)
        self.alignment_weight = alignment_weight
        # Frozen and not part of the model: kept out of the module tree, and so out of checkpoints.
        self._encoders: list[Encoder] = [] if encoder is None else [encoder_from(encoder)]

    def check_data(self, data: Any) -> None:
        super().check_data(data)
        if self._encoders:
            self._check_tokens(data)

    def loss(self, batch: ImageBatch, draw: Draw) -> Tensor:
        rows, place = self.draw_rows(batch, draw)
        flow_B, projected_BNZ = flow_and_projection(self.model, rows)
        for encoder in self._encoders:
            tokens_BNZ = encoder.to(self.device)(_pixels(batch)[place])
            flow_B = flow_B + self.alignment_weight * alignment_loss(projected_BNZ, tokens_BNZ)
        return flow_B.mean()

    def _check_tokens(self, data: Any) -> None:
        """Compare the tokens of the encoder with the features on one sample."""
        import numpy as np

        batch = data.train_source().dataset.batch(np.zeros(1, dtype=np.int64))
        tokens = self._encoders[0](_pixels(batch))
        expected = (self.model.num_tokens, self.model.config["dim_projection"])
        if tuple(tokens.shape[1:]) != expected:
            raise ConfigError(
                f"encoder: {tokens.shape[1]} tokens of {tokens.shape[2]} channels, the model has {expected[0]} tokens "
                f"and dim_projection {expected[1]}"
            )


class FRNTask(BlockwiseTask):
    """The second stage: an FRN on a finished first stage, whose weights stay as they are.

    Args:
        init: the first stage: a run folder, a model folder or a name of the zoo; of a run the averaged weights.
        optimizer: optimiser, schedule and warm-up.
        frn_depth: blocks of the FRN.
        seed: keys every random number of the training.
        sample_steps: steps of the pictures in the log, multiples of the number of segments.
        metric: measured by validation and test besides the loss.
    """

    def __init__(
        self,
        init: str,
        optimizer: OptimizerConfig,
        frn_depth: int = 4,
        seed: int = 0,
        sample_steps: list[int] = [24],  # noqa: B006
        metric: SampleFrechet | None = None,
    ):
        super().__init__(with_frn(init, frn_depth), optimizer, seed, sample_steps, metric)
        self.model.requires_grad_(False)
        self.model.frn_blocks.requires_grad_(True)

    def loss(self, batch: ImageBatch, draw: Draw) -> Tensor:
        rows, _ = self.draw_rows(batch, draw)
        return residual_loss(self.model, rows).mean()

    def configure_optimizers(self) -> Any:
        return self.optimizer_config.build(self.model.frn_blocks.parameters(), self.trainer.max_steps)


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator)


def _pixels(batch: ImageBatch) -> Tensor:
    """The images [B, 3, S, S] in [-1, 1] that an encoder sees."""
    return batch.pixels if isinstance(batch, PixelBatch) and batch.pixels is not None else batch.image


def _check_rows(trainer: Any, segments: int) -> None:
    """Raise `ConfigError` where a process would have a segment without rows, and its strategy would wait for them."""
    data = getattr(trainer, "datamodule", None)
    if data is None or trainer.world_size == 1:
        return
    rows = data.batch_size // trainer.world_size
    options = getattr(trainer.strategy, "_ddp_kwargs", {})
    if rows < segments and not options.get("find_unused_parameters"):
        raise ConfigError(
            f"{rows} rows in each process for {segments} segments leave blocks without gradients: use a larger "
            "batch_size, or the strategy ddp_find_unused_parameters_true"
        )
