"""Training of the room: EDM teachers, 1-rectified flows, reflow students (arXiv 2405.20320, 2206.00364).

Three tasks that differ in their model and their loss; the rest is in `visionseq.flow.task`. Clock of the room:
t = 0 is data, t = 1 is noise.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from visionseq import zoo
from visionseq.data.batch import ImageBatch, PairBatch
from visionseq.errors import ConfigError
from visionseq.flow.sample_frechet import SampleFrechet
from visionseq.flow.task import Draw, GenerativeTask
from visionseq.flow.time import logit_normal_t, sample_t, uniform_t
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow.losses import edm_loss, sample_sigma, velocity_loss
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.perceptual import PerceptualDistance, perceptual_from
from visionseq.rectified_flow.sampling import PATH


class TeacherTask(GenerativeTask[ImageBatch]):
    """Denoising training of an EDM teacher: ln sigma ~ N(-1.2, 1.2^2), weight (sigma^2 + 0.25) / (0.5 sigma)^2.

    Args:
        network: `type` (SongUNet, DhariwalUNet, ResidualMLP or PatchTransformer) and the network's arguments by name.
        optimizer: Adam and its warm-up.
        use_fp16: run the network in float16 on CUDA; weights, preconditioning and loss stay float32.
        seed: keys every random number of the training.
        sample_steps: steps of the Heun sampler for the pictures in the log.
        metric: measured by validation and test besides the loss.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: OptimizerConfig,
        use_fp16: bool = False,
        seed: int = 0,
        sample_steps: list[int] = [18],  # noqa: B006 (read only; a config shows a plain list)
        metric: SampleFrechet | None = None,
    ):
        super().__init__(EDMDenoiser(build_network(network), use_fp16=use_fp16), optimizer, seed, sample_steps, metric)

    def loss(self, batch: ImageBatch, draw: Draw) -> Tensor:
        sigma = draw(sample_sigma, len(batch)).to(self.device)
        noise = draw(self.noise, len(batch)).to(self.device)
        return edm_loss(self.model, batch.image, sigma, noise, class_labels=self.labels(batch)).mean()


class RectifiedFlowTask(GenerativeTask[ImageBatch]):
    """A 1-rectified flow from scratch: independent pairs of data and noise, squared error of the velocity.

    Args:
        network: `type` (SongUNet, DhariwalUNet, ResidualMLP or PatchTransformer) and the network's arguments by name.
        optimizer: Adam and its warm-up.
        time: distribution of t; the middle of [0, 1] matters most for a first flow.
        use_fp16: run the network in float16 on CUDA.
        seed: keys every random number of the training.
        sample_steps: Euler steps of the pictures in the log.
        metric: measured by validation and test besides the loss.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: OptimizerConfig,
        time: Literal["uniform", "logit-normal"] = "uniform",
        use_fp16: bool = False,
        seed: int = 0,
        sample_steps: list[int] = [1, 5, 32],  # noqa: B006
        metric: SampleFrechet | None = None,
    ):
        super().__init__(EDMVelocity(build_network(network), use_fp16=use_fp16), optimizer, seed, sample_steps, metric)
        self.time = {"uniform": uniform_t, "logit-normal": logit_normal_t}[time]

    def loss(self, batch: ImageBatch, draw: Draw) -> Tensor:
        noise = draw(self.noise, len(batch)).to(self.device)
        t = draw(lambda n, generator: self.time(n, generator=generator), len(batch)).to(self.device)
        return _pair_loss(self.model, batch.image, noise, t, self.labels(batch), "l2-squared")


class ReflowTask(GenerativeTask[PairBatch]):
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
        perceptual: the perceptual distance: a zoo name or folder of a feature network, or
            `lpips:FILE` for LPIPS with VGG16 weights from a local file. Needed by the lpips losses.
        use_fp16: run the network in float16 on CUDA; None keeps what `init` was saved with.
        seed: keys every random number of the training.
        sample_steps: Euler steps of the pictures in the log.
        metric: measured by validation and test besides the loss.
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
        metric: SampleFrechet | None = None,
    ):
        super().__init__(_student(init, network, use_fp16), optimizer, seed, sample_steps, metric)
        self.time, self.a, self.antithetic = time, a, antithetic
        self.loss_name, self.divt = loss, divt
        # Frozen and not part of the model: kept out of the module tree, and so out of checkpoints.
        self._perceptual: list[PerceptualDistance] = []
        if loss.startswith("lpips"):
            if perceptual is None:
                raise ConfigError(f"loss {loss!r} needs `perceptual`: a feature network of the zoo, or lpips:FILE")
            self._perceptual.append(perceptual_from(perceptual))

    def loss(self, batch: PairBatch, draw: Draw) -> Tensor:
        t = draw(self._sample_t, len(batch)).to(self.device)
        distance = self._perceptual[0].to(self.device) if self._perceptual else None
        labels = self.labels(batch)
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
