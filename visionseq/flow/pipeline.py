"""A sampling pipeline in the manner of diffusers: noise in, pictures out.

A room's model brings its own sampler, `model.sample(noise, ...)`; the pipeline draws the noise, looks after classes and
formats, and hands the options on. Noise comes from CPU generators unless told otherwise, so that a seed gives the same
noise on every device.

Legend: B batch, C channels, H, W side.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from visionseq.errors import ConfigError
from visionseq.viz import to_pil

if TYPE_CHECKING:
    from PIL.Image import Image

Generators = torch.Generator | Sequence[torch.Generator]
Callback = Callable[[int, float, Tensor], None]


class SamplingModel(Protocol):
    """What a room's model offers.

    `sample` takes unit noise [B, C, H, W] and `class_labels` int64 [B] or None, and of the options `steps`,
    `guidance_scale`, `solver`, `rule` and `callback(step, time, state)` those that it knows; it returns images
    [B, C, H, W] in [-1, 1]. The defaults of its signature are the pipeline's.
    """

    sample_shape: tuple[int, int, int]
    label_dim: int

    def sample(self, noise: Tensor, *, class_labels: Tensor | None = None) -> Tensor: ...


@dataclass
class SamplingOutput:
    """`images` in the format that was asked for; `class_labels` int64 [B], the classes they were drawn for, or None."""

    images: "list[Image] | np.ndarray | Tensor"
    class_labels: Tensor | None = None


class SamplingPipeline:
    """Images from a generative model.

    Args:
        model: a room's model, such as `visionseq.load("rf-digits-2rf-pp")`; it is put into eval mode.

    Raises `ConfigError` for a model that has no sampler.
    """

    def __init__(self, model: SamplingModel):
        if not callable(getattr(model, "sample", None)) or not hasattr(model, "sample_shape"):
            raise ConfigError(f"{type(model).__name__} draws no images: it has no `sample` and `sample_shape`")
        self.model = model.eval()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Pipeline around a model of the zoo, a model folder, a run folder or the Hub (see `visionseq.load`)."""
        from visionseq.zoo.loading import load

        return cls(
            load(
                pretrained_model_name_or_path,
                revision=revision,
                cache_dir=cache_dir,
                token=token,
                force_download=force_download,
                local_files_only=local_files_only,
            )
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """Move the model."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int | None = None,
        generator: Generators | None = None,
        class_labels: int | Sequence[int] | Tensor | None = None,
        guidance_scale: float = 1.0,
        output_type: Literal["pil", "pt", "np"] = "pil",
        callback: Callback | None = None,
        solver: str | None = None,
        rule: str | None = None,
        return_dict: bool = True,
    ) -> SamplingOutput | tuple:
        """Draw images.

        Args:
            batch_size: number of images.
            num_inference_steps: steps of the model's sampler; default: the model's own.
            generator: source of the noise, or one per image, which makes an image independent of the batch it is in;
                default: torch's global CPU generator.
            class_labels: a class for all images, or one per image; a conditional model draws missing ones at random.
            guidance_scale: of classifier-free guidance; 1 is none.
            output_type: `pil` pictures, `pt` float [B, C, H, W] or `np` float [B, H, W, C], both in [0, 1].
            callback: called after each step with (step, time, state).
            solver: of the model's sampler, where it has several.
            rule: update rule of the model's sampler, where it has several.
            return_dict: False returns the tuple `(images,)`.

        Raises:
            ConfigError: an argument that the model does not know or that does not fit.
        """
        if output_type not in ("pil", "pt", "np"):
            raise ConfigError(f"output_type {output_type!r}, expected pil, pt or np")
        options = {
            "steps": (num_inference_steps, None),
            "guidance_scale": (guidance_scale, 1.0),
            "callback": (callback, None),
            "solver": (solver, None),
            "rule": (rule, None),
        }
        given = self._known({name: value for name, (value, default) in options.items() if value != default})
        generators = self._generators(generator, batch_size)
        noise = self._noise(generators, batch_size)
        labels = self._labels(class_labels, generators, batch_size)
        on_device = None if labels is None else labels.to(self.device)
        images = self.model.sample(noise.to(self.device), class_labels=on_device, **given)
        output = SamplingOutput(_formatted(images, output_type), labels)
        return output if return_dict else (output.images,)

    def _known(self, given: dict[str, Any]) -> dict[str, Any]:
        """The options that were given, all of them parameters of the model's sampler."""
        known = inspect.signature(self.model.sample).parameters
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigError(f"the sampler of {type(self.model).__name__} has no {' and no '.join(unknown)}")
        return given

    def _generators(self, generator: Generators | None, batch_size: int) -> list[torch.Generator]:
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size}, expected at least 1")
        if generator is None or isinstance(generator, torch.Generator):
            return [generator or torch.default_generator]
        if len(generator) != batch_size:
            raise ConfigError(f"{len(generator)} generators for {batch_size} images, expected one, or one per image")
        return list(generator)

    def _noise(self, generators: list[torch.Generator], batch_size: int) -> Tensor:
        shape = (batch_size // len(generators), *self.model.sample_shape)
        return torch.cat([torch.randn(shape, generator=g, device=g.device).cpu() for g in generators])

    def _labels(self, labels: int | Sequence[int] | Tensor | None, generators: list, batch_size: int) -> Tensor | None:
        classes = self.model.label_dim
        if labels is None:
            return _random_labels(generators, batch_size, classes) if classes else None
        if not classes:
            raise ConfigError(f"class_labels are given, {type(self.model).__name__} is unconditional")
        labels = torch.as_tensor(labels).cpu()
        if labels.is_floating_point() or labels.ndim > 1 or labels.numel() not in (1, batch_size):
            raise ConfigError(
                f"class_labels: {labels.dtype} {list(labels.shape)}, expected one integer or {batch_size}"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise ConfigError(f"class_labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
        return labels.long().reshape(-1).expand(batch_size)


def _random_labels(generators: list[torch.Generator], batch_size: int, classes: int) -> Tensor:
    """Uniform classes; drawn after the noise, so that a class given by hand leaves the noise as it is."""
    shape = (batch_size // len(generators),)
    return torch.cat([torch.randint(classes, shape, generator=g, device=g.device).cpu() for g in generators])


def _formatted(images: Tensor, output_type: str) -> "list[Image] | np.ndarray | Tensor":
    if output_type == "pil":
        return to_pil(images)
    unit = (images.float() / 2 + 0.5).clamp(0, 1)
    return unit if output_type == "pt" else unit.cpu().permute(0, 2, 3, 1).numpy()
