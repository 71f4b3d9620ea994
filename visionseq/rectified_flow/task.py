"""Training of the room: EDM teachers, 1-rectified flows, reflow students (arXiv 2405.20320, 2206.00364).

Three LightningModules with one shape: a `model` to train, a loss, and pictures of what the model draws. Every random
number of a step comes from one generator keyed by the seed and the batches finished before, drawn for the global batch,
so a run does not depend on the number of processes and resumes without any generator state. Clock of the room: t = 0 is
data, t = 1 is noise.
"""

from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor

from visionseq import zoo
from visionseq.data.batch import ImageBatch, PairBatch
from visionseq.data.seeding import GlobalDraw, generator_for
from visionseq.errors import ConfigError
from visionseq.flow.time import logit_normal_t, sample_t, uniform_t
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow.losses import edm_loss, sample_sigma, velocity_loss
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.perceptual import PerceptualDistance, perceptual_from
from visionseq.rectified_flow.sampling import PATH

VALIDATION_SEED = 1_000_003  # keeps the draws of validation away from those of training


class _FlowTask(LightningModule):
    """What the three tasks share: per-step randomness, optimiser, logging and the picture."""

    def __init__(
        self, model: EDMDenoiser | EDMVelocity, optimizer: OptimizerConfig, seed: int, sample_steps: list[int]
    ):
        super().__init__()
        self.model = model
        self.optimizer_config = optimizer
        self.seed = seed
        self.sample_steps, self.sample_columns = sample_steps, len(sample_steps)

    def loss(self, batch: ImageBatch | PairBatch, draw: GlobalDraw) -> Tensor:
        """Mean loss of a batch, every random number taken from `draw`."""
        raise NotImplementedError

    def training_step(self, batch: ImageBatch | PairBatch, batch_idx: int) -> Tensor:
        # Lightning's epoch and batch_idx differ between a run and its resume in mid-epoch; this counter does not.
        finished = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed
        return self.loss(batch, self._draw(self.seed, finished))

    def validation_step(self, batch: ImageBatch | PairBatch, batch_idx: int) -> None:
        loss = self.loss(batch, self._draw(VALIDATION_SEED, batch_idx))
        self.log("val/loss", loss, prog_bar=True, on_epoch=True, sync_dist=True, batch_size=len(batch))

    def test_step(self, batch: ImageBatch | PairBatch, batch_idx: int) -> None:
        loss = self.loss(batch, self._draw(VALIDATION_SEED, batch_idx))
        self.log("test/loss", loss, on_epoch=True, sync_dist=True, batch_size=len(batch))

    def predict_step(self, batch: ImageBatch | PairBatch, batch_idx: int) -> Tensor:
        """One generated image per row of the batch, [B, C, H, W] in [-1, 1], with the classes of the batch."""
        noise = self._draw(VALIDATION_SEED, batch_idx)(self._noise, len(batch)).to(self.device)
        return self.model.sample(noise, class_labels=self._labels(batch))

    def configure_optimizers(self) -> dict[str, Any]:
        return self.optimizer_config.build(self.model.parameters(), self.trainer.max_steps)

    @torch.no_grad()
    def sample_images(self, rows: int = 8) -> Tensor:
        """One column per entry of `sample_steps`, from noise that never changes: [rows * columns, C, H, W]."""
        noise = self._noise(rows, generator_for(VALIDATION_SEED)).to(self.device)
        labels = torch.arange(rows, device=self.device) % self.model.label_dim if self.model.label_dim else None
        columns = [self.model.sample(noise, steps, class_labels=labels) for steps in self.sample_steps]
        return torch.stack(columns, 1).flatten(0, 1)

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn((n, *self.model.sample_shape), generator=generator)

    def _labels(self, batch: ImageBatch | PairBatch) -> Tensor | None:
        if not self.model.label_dim:
            return None
        if batch.label is None:
            raise ConfigError(f"the model is conditional on {self.model.label_dim} classes, the data has no labels")
        return batch.label

    def _draw(self, *keys: int) -> GlobalDraw:
        return GlobalDraw(*keys, rank=self.global_rank, world=self.trainer.world_size)


class TeacherTask(_FlowTask):
    """Denoising training of an EDM teacher: ln sigma ~ N(-1.2, 1.2^2), weight (sigma^2 + 0.25) / (0.5 sigma)^2.

    Args:
        network: `type` (SongUNet, DhariwalUNet, ResidualMLP or PatchTransformer) and the network's arguments by name.
        optimizer: Adam and its warm-up.
        use_fp16: run the network in float16 on CUDA; weights, preconditioning and loss stay float32.
        seed: keys every random number of the training.
        sample_steps: steps of the Heun sampler for the pictures in the log.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: OptimizerConfig,
        use_fp16: bool = False,
        seed: int = 0,
        sample_steps: list[int] = [18],  # noqa: B006 (read only; a config shows a plain list)
    ):
        super().__init__(EDMDenoiser(build_network(network), use_fp16=use_fp16), optimizer, seed, sample_steps)

    def loss(self, batch: ImageBatch, draw: GlobalDraw) -> Tensor:
        sigma = draw(sample_sigma, len(batch)).to(self.device)
        noise = draw(self._noise, len(batch)).to(self.device)
        return edm_loss(self.model, batch.image, sigma, noise, class_labels=self._labels(batch)).mean()


class RectifiedFlowTask(_FlowTask):
    """A 1-rectified flow from scratch: independent pairs of data and noise, squared error of the velocity.

    Args:
        network: `type` (SongUNet, DhariwalUNet, ResidualMLP or PatchTransformer) and the network's arguments by name.
        optimizer: Adam and its warm-up.
        time: distribution of t; the middle of [0, 1] matters most for a first flow.
        use_fp16: run the network in float16 on CUDA.
        seed: keys every random number of the training.
        sample_steps: Euler steps of the pictures in the log.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: OptimizerConfig,
        time: Literal["uniform", "logit-normal"] = "uniform",
        use_fp16: bool = False,
        seed: int = 0,
        sample_steps: list[int] = [1, 5, 32],  # noqa: B006
    ):
        super().__init__(EDMVelocity(build_network(network), use_fp16=use_fp16), optimizer, seed, sample_steps)
        self.time = {"uniform": uniform_t, "logit-normal": logit_normal_t}[time]

    def loss(self, batch: ImageBatch, draw: GlobalDraw) -> Tensor:
        noise = draw(self._noise, len(batch)).to(self.device)
        t = draw(lambda n, generator: self.time(n, generator=generator), len(batch)).to(self.device)
        return _pair_loss(self.model, batch.image, noise, t, self._labels(batch), "l2-squared")


class ReflowTask(_FlowTask):
    """Training of the next flow on pairs (image, noise) of a teacher: configurations A to G of the paper.

    Args:
        optimizer: Adam and its warm-up.
        init: model whose weights the student starts from (zoo name, run or model folder); None starts from scratch.
        network: the student's network when it starts from scratch.
        time: distribution of t.
        a: sharpness of the U-shaped density.
        antithetic: draw t and 1 - t from one pool, as the official code does; otherwise i.i.d.
        loss: one of l2-squared, l2, huber, lpips, lpips-huber.
        divt: divide the perceptual term by t (configuration F).
        perceptual: what measures perceptual distance: a zoo name or folder of a feature network, or
            `lpips:FILE` for LPIPS with VGG16 weights from a local file. Needed by the lpips losses.
        use_fp16: run the network in float16 on CUDA; None keeps what `init` was saved with.
        seed: keys every random number of the training.
        sample_steps: Euler steps of the pictures in the log.
    """

    def __init__(
        self,
        optimizer: OptimizerConfig,
        init: str | None = None,
        network: dict[str, Any] | None = None,
        time: Literal["u-shaped", "uniform"] = "u-shaped",
        a: float = 4.0,
        antithetic: bool = True,
        loss: Literal["l2-squared", "l2", "huber", "lpips", "lpips-huber"] = "lpips-huber",
        divt: bool = True,
        perceptual: str | None = None,
        use_fp16: bool | None = None,
        seed: int = 0,
        sample_steps: list[int] = [1, 2, 5],  # noqa: B006
    ):
        super().__init__(_student(init, network, use_fp16), optimizer, seed, sample_steps)
        if loss.startswith("lpips") and perceptual is None:
            raise ConfigError(f"loss {loss!r} needs `perceptual`: a feature network of the zoo, or lpips:FILE")
        self.time, self.a, self.antithetic = time, a, antithetic
        self.loss_name, self.divt = loss, divt
        # Frozen and not part of the model: kept out of the module tree, and so out of checkpoints.
        self._perceptual: list[PerceptualDistance] = [perceptual_from(perceptual)] if loss.startswith("lpips") else []

    def setup(self, stage: str) -> None:
        for distance in self._perceptual:
            distance.to(self.device)

    def loss(self, batch: PairBatch, draw: GlobalDraw) -> Tensor:
        t = draw(self._sample_t, len(batch)).to(self.device)
        distance = self._perceptual[0] if self._perceptual else None
        labels = self._labels(batch)
        return _pair_loss(self.model, batch.image, batch.noise, t, labels, self.loss_name, self.divt, distance)

    def _sample_t(self, n: int, generator: torch.Generator) -> Tensor:
        if self.time == "uniform":
            return uniform_t(n, generator=generator)
        return sample_t(n, self.a, generator=generator, antithetic=self.antithetic)


def _pair_loss(
    model: EDMVelocity,
    x: Tensor,
    z: Tensor,
    t: Tensor,
    labels: Tensor | None,
    loss: str,
    divt: bool = False,
    perceptual: PerceptualDistance | None = None,
) -> Tensor:
    """Loss of the velocity at x_t = (1 - t) x + t z, averaged over the batch."""
    x_t = PATH.at(x, z, t)
    return velocity_loss(loss, model(x_t, t, labels), x, z, x_t, t, divt=divt, perceptual=perceptual).mean()


def _student(init: str | None, network: dict[str, Any] | None, use_fp16: bool | None) -> EDMVelocity:
    if init is None:
        if network is None:
            raise ConfigError("`init` and `network` are both empty: name a model to start from, or a network")
        return EDMVelocity(build_network(network), use_fp16=bool(use_fp16))
    teacher = zoo.load(init)
    if not isinstance(teacher, EDMDenoiser | EDMVelocity):
        raise ConfigError(f"init: {init} is a {type(teacher).__name__}, expected an EDMDenoiser or EDMVelocity")
    fp16 = teacher.use_fp16 if use_fp16 is None else use_fp16
    student = EDMVelocity(teacher.model, sigma_data=teacher.sigma_data, use_fp16=fp16)
    student.preprocessing = teacher.preprocessing
    return student.train()
