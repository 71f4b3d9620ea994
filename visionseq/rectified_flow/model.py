"""EDM preconditioning (arXiv 2206.00364) and its exact reading as a rectified flow (arXiv 2405.20320, section 3).

    D(y; sigma) = c_skip y + c_out F(c_in y, ln(sigma) / 4),      y = x + sigma z
    v(x_t, t)   = (x_t - D(x_t / (1 - t); t / (1 - t))) / t,      x_t = (1 - t) x + t z

Both wrappers hold the same network under the name `model`, so the weights of an EDM teacher are a 1-rectified flow and
the start of a student without any change. Clock of the room: t = 0 is data, t = 1 is noise; t, sigma, the coefficients
and D stay in float32 under autocast and in float16 models.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance import GuidanceRule
from visionseq.nn.precision import at_least_float32
from visionseq.rectified_flow.dhariwal_unet import DhariwalUNet
from visionseq.rectified_flow.network import Network
from visionseq.rectified_flow.patch_transformer import PatchTransformer
from visionseq.rectified_flow.residual_mlp import ResidualMLP
from visionseq.rectified_flow.sampling import sample
from visionseq.rectified_flow.song_unet import SongUNet
from visionseq.rectified_flow.teacher import edm_sample
from visionseq.saving.pretrained import PretrainedModel

NETWORKS: dict[str, type[Network]] = {
    network.__name__: network for network in (SongUNet, DhariwalUNet, ResidualMLP, PatchTransformer)
}


INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def build_network(config: dict[str, Any]) -> Network:
    """Network from `{"type": name, **constructor arguments}`; an unknown name or argument raises `ConfigError`."""
    arguments = dict(config)
    name = arguments.pop("type", None)
    if name not in NETWORKS:
        raise ConfigError(f"network type {name!r}, expected one of {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name](**arguments)
    except TypeError as error:
        raise ConfigError(f"network {name}: {error}") from error


class _PreconditionedModel(PretrainedModel):
    """A network with EDM preconditioning; what denoiser and velocity share."""

    room: ClassVar[str] = "rectified_flow"

    def __init__(self, network: Network, sigma_data: float = 0.5, use_fp16: bool = False):
        super().__init__()
        self.model = network
        self.sigma_data = sigma_data
        self.use_fp16 = use_fp16
        self.config = {"network": network.config, "sigma_data": sigma_data, "use_fp16": use_fp16}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_PreconditionedModel":
        """Model from the plain values of `config`."""
        return cls(**{**config, "network": build_network(config["network"])})

    @property
    def img_resolution(self) -> int:
        return self.model.img_resolution

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.model.in_channels

    @property
    def label_dim(self) -> int:
        """Number of classes; 0 = unconditional."""
        return self.model.label_dim

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.in_channels, self.img_resolution, self.img_resolution

    def denoise(
        self, y: Tensor, sigma: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        """D(y; sigma) in float32: y [B, C, H, W] = x + sigma z, sigma [B] or scalar -> estimate of x.

        Classes are indices int64 [B] or one-hot [B, label_dim]; without them a conditional network sees zeros.
        """
        y, sigma = y.float(), torch.as_tensor(sigma, device=y.device).float().reshape(-1, 1, 1, 1)
        variance = sigma.square() + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data / variance.sqrt()
        c_in = 1 / variance.sqrt()
        c_noise = sigma.log().flatten() / 4
        dtype = torch.float16 if self.use_fp16 and y.is_cuda else self._network_dtype
        if augment_labels is None and self.model.augment_dim:
            # Zeros, as the official code has them: they add nothing, but every parameter gets a gradient.
            augment_labels = y.new_zeros(len(y), self.model.augment_dim)
        output = self.model((c_in * y).to(dtype), c_noise, self._one_hot(class_labels), augment_labels)
        return c_skip * y + c_out * output.float()

    @property
    def _network_dtype(self) -> torch.dtype:
        """float32, or the half precision that the weights were moved to."""
        dtype = next(self.model.parameters()).dtype
        return dtype if dtype in (torch.float16, torch.bfloat16) else torch.float32

    def no_class(self, class_labels: Tensor | None) -> None:
        """The value for "no class": no labels, which a conditional network sees as zeros."""

    def _one_hot(self, class_labels: Tensor | None) -> Tensor | None:
        """Rows [B or 1, label_dim] in float32. Integers count as classes, two axes as one-hot rows, nothing else."""
        if not self.label_dim or class_labels is None:
            return None
        if class_labels.ndim == 2 and class_labels.shape[1] == self.label_dim:
            return class_labels.float()
        if class_labels.ndim > 1 or class_labels.dtype not in INTEGERS:
            raise ConfigError(
                f"class_labels: {class_labels.dtype} {list(class_labels.shape)}, expected integers [B] or one-hot rows "
                f"[B, {self.label_dim}]"
            )
        # On a GPU the check would wait for the device, which reports such labels itself.
        if class_labels.is_cpu and not ((class_labels >= 0) & (class_labels < self.label_dim)).all():
            raise ConfigError(f"class_labels: {class_labels.tolist()}, expected 0 to {self.label_dim - 1}")
        return F.one_hot(class_labels.long().reshape(-1), self.label_dim).float()


class EDMDenoiser(_PreconditionedModel):
    """Denoiser D(y; sigma) of an EDM teacher.

    Args:
        network: F, one of `NETWORKS`.
        sigma_data: standard deviation of the data.
        use_fp16: run the network in float16 on CUDA.
    """

    def forward(
        self, y: Tensor, sigma: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        """D(y; sigma) in float32, see `denoise`."""
        return self.denoise(y, sigma, class_labels, augment_labels)

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        steps: int = 18,
        class_labels: Tensor | None = None,
        solver: Literal["euler", "heun"] = "heun",
        guidance_scale: float = 1.0,
        guidance: GuidanceRule | None = None,
        callback: Callable[[int, float, Tensor], None] | None = None,
    ) -> Tensor:
        """Images [B, C, H, W] float32 from unit noise by the EDM sampler; Heun makes 2 steps - 1 evaluations."""
        trajectory = edm_sample(
            self,
            noise,
            steps,
            solver,
            class_labels=class_labels,
            guidance_scale=guidance_scale,
            guidance=guidance,
            callback=callback,
            record=False,
        )
        return trajectory.x.float()


class EDMVelocity(_PreconditionedModel):
    """Velocity v(x_t, t) of a rectified flow, on the network of an EDM denoiser.

    Args:
        network: F, one of `NETWORKS`; `EDMVelocity(denoiser.model)` shares the weights of a denoiser.
        sigma_data: standard deviation of the data.
        use_fp16: run the network in float16 on CUDA.
    """

    def forward(self, x_t: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """v(x_t, t): x_t [B, C, H, W], 0 < t < 1 as [B] or scalar, in float32 (float64 where x_t or t are).

        The rounding of D is divided by t: in float32 the error of v grows to about 1e-2 at t = 1e-5.
        """
        x_t, t = at_least_float32(x_t), at_least_float32(torch.as_tensor(t, device=x_t.device)).reshape(-1, 1, 1, 1)
        return (x_t - self.denoise(x_t / (1 - t), t / (1 - t), class_labels)) / t

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        steps: int = 1,
        class_labels: Tensor | None = None,
        solver: Literal["euler", "heun"] = "euler",
        rule: Literal["default", "new"] = "new",
        guidance_scale: float = 1.0,
        guidance: GuidanceRule | None = None,
        callback: Callable[[int, float, Tensor], None] | None = None,
    ) -> Tensor:
        """Images [B, C, H, W] float32 from unit noise, by default with the re-anchoring rule of the paper."""
        trajectory = sample(
            self,
            noise,
            steps,
            solver,
            rule,
            class_labels=class_labels,
            guidance_scale=guidance_scale,
            guidance=guidance,
            callback=callback,
            record=False,
        )
        return trajectory.x.float()
