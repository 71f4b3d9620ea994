"""A sampling pipeline in the manner of diffusers: noise in, pictures out.

A room's model brings its own sampler, `model.sample(noise, ...)`. The pipeline draws the noise, looks after classes and
formats, hands on the options that the sampler's signature has, and decodes latents where there is a decoder. Noise
comes from CPU generators by default, so that a seed gives the same noise on every device.

Legend: B batch, C channels, H, W side.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from visionseq.errors import ConfigError
from visionseq.saving.pretrained import PretrainedModel
from visionseq.viz import to_pil

if TYPE_CHECKING:
    from PIL.Image import Image

Generators = torch.Generator | Sequence[torch.Generator]
Labels = int | str | Sequence[int | str] | Tensor
Callback = Callable[[int, float, Tensor], None]
OUTPUT_TYPES = ("pil", "pt", "np", "latent")


class SamplingModel(Protocol):
    """A model that draws images, as every generative room has one.

    `sample` takes unit noise [B, C, H, W], `class_labels` int64 [B] or None, and options of its own, whose defaults are
    the pipeline's; it returns images [B, C, H, W] in [-1, 1] or latents. Of its options the pipeline knows `steps`,
    `callback(step, time, state)` and `generator` (of the noise that a stochastic sampler adds: one, or one for each
    image). A model of latents may have a `decoder`. Every `PretrainedModel` has the rest.
    """

    preprocessing: dict[str, Any]

    @property
    def sample_shape(self) -> tuple[int, int, int]: ...

    @property
    def label_dim(self) -> int: ...

    @property
    def sample(self) -> Callable[..., Tensor]: ...

    def eval(self) -> Self: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def save_pretrained(self, save_directory: str | os.PathLike, *, card: str | None = None) -> None: ...


@dataclass
class SamplingOutput:
    """`images` in the chosen format; `class_labels` int64 [B], the classes they were drawn for, or None."""

    images: "list[Image] | np.ndarray | Tensor"
    class_labels: Tensor | None = None


class SamplingPipeline:
    """Images from a generative model.

    Args:
        model: a room's model, such as `visionseq.load("rf-digits-2rf-pp")`; it is put into eval mode.
        decoder: latents [B, C, H, W] -> images [B, 3, H', W'] in [-1, 1]; None: the model's own `decoder`, if any.

    Raises `ConfigError` for a model that has no sampler.
    """

    def __init__(self, model: PretrainedModel | SamplingModel, decoder: Callable[[Tensor], Tensor] | None = None):
        if not _draws_images(model):
            raise ConfigError(f"{type(model).__name__} draws no images: it has no `sample` and `sample_shape`")
        self.model = model.eval()
        self.decoder = decoder if decoder is not None else getattr(model, "decoder", None)
        if isinstance(self.decoder, nn.Module):
            self.decoder.eval()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        decoder: Callable[[Tensor], Tensor] | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Pipeline around a model of the zoo, a model folder, a run folder or the Hub (see `visionseq.load`)."""
        from visionseq.zoo.loading import load

        model = load(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        return cls(model, decoder)

    def save_pretrained(self, save_directory: str | os.PathLike, *, card: str | None = None) -> None:
        """Write the model's folder, which `from_pretrained` reads; it does not hold a decoder."""
        self.model.save_pretrained(save_directory, card=card)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's weights."""
        return next(self.model.parameters()).dtype

    def to(self, device: str | torch.device | torch.dtype | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move model and decoder, change the dtype of their weights, or both: `.to("cuda", torch.bfloat16)`.

        Raises `ConfigError` for a dtype that is not a floating point one.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise ConfigError(f"dtype {dtype}, expected a floating point one")
        for part in (self.model, self.decoder):
            if isinstance(part, nn.Module):
                part.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int | None = None,
        generator: Generators | None = None,
        class_labels: Labels | None = None,
        output_type: Literal["pil", "pt", "np", "latent"] = "pil",
        callback: Callback | None = None,
        return_dict: bool = True,
        **sampler_options: Any,
    ) -> SamplingOutput | tuple:
        """Draw images.

        Args:
            batch_size: number of images.
            num_inference_steps: steps of the model's sampler; default: the model's own.
            generator: source of the noise, or one per image, which makes an image independent of the batch it is in;
                default: torch's global CPU generator.
            class_labels: a class for all images, or one per image, by number or by name; a conditional model draws
                missing ones at random.
            output_type: `pil` pictures, `pt` float [B, C, H, W] or `np` float [B, H, W, C], both in [0, 1]; `latent`
                returns the sampler's result without decoding it.
            callback: called after each step with (step, time, state).
            return_dict: False returns the tuple `(images,)`.
            sampler_options: further arguments of the model's `sample`, such as `guidance_scale`; None counts as absent.

        Raises:
            ConfigError: an option that the sampler does not have, or a value that is not possible.
        """
        if output_type not in OUTPUT_TYPES:
            raise ConfigError(f"output_type {output_type!r}, expected one of {', '.join(OUTPUT_TYPES)}")
        options = self._known({"steps": num_inference_steps, "callback": callback, **sampler_options})
        generators = self._generators(generator, batch_size)
        noise = self._noise(generators, batch_size)
        labels = self._labels(class_labels, generators, batch_size)
        if "generator" in self._parameters:
            options["generator"] = generators if len(generators) > 1 else generators[0]
        on_device = None if labels is None else labels.to(self.device)
        images = self.model.sample(noise.to(self.device), class_labels=on_device, **options)
        if self.decoder is not None and output_type != "latent":
            images = self.decoder(images)
        output = SamplingOutput(_formatted(images, output_type), labels)
        return output if return_dict else (output.images,)

    @property
    def _parameters(self) -> list[str]:
        """Names of the options of the model's sampler."""
        return [
            name for name in inspect.signature(self.model.sample).parameters if name not in ("noise", "class_labels")
        ]

    def _known(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options that have a value; `ConfigError` where the sampler has no such parameter."""
        options = {name: value for name, value in options.items() if value is not None}
        unknown = [name for name in options if name not in self._parameters]
        if unknown:
            near = get_close_matches(unknown[0], self._parameters, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; its options: {', '.join(self._parameters)}"
            raise ConfigError(f"the sampler of {type(self.model).__name__} has no {' and no '.join(unknown)}{hint}")
        return options

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

    def _labels(self, labels: Labels | None, generators: list, batch_size: int) -> Tensor | None:
        classes = self.model.label_dim
        if labels is None:
            return _random_labels(generators, batch_size, classes) if classes else None
        if not classes:
            raise ConfigError(f"class_labels are given, {type(self.model).__name__} is unconditional")
        labels = torch.as_tensor(self._numbers(labels)).cpu()
        if labels.is_floating_point() or labels.ndim > 1 or labels.numel() not in (1, batch_size):
            raise ConfigError(
                f"class_labels: {labels.dtype} {list(labels.shape)}, expected one integer or {batch_size}"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise ConfigError(f"class_labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
        return labels.long().reshape(-1).expand(batch_size)

    def _numbers(self, labels: Labels) -> Any:
        """Names of classes as their numbers among the model's class names; numbers stay unchanged."""
        names = list(getattr(self.model, "preprocessing", {}).get("class_names") or [])
        if isinstance(labels, str):
            return _numbered(labels, names)
        return [_numbered(label, names) for label in labels] if isinstance(labels, list | tuple) else labels


def _draws_images(model: object) -> TypeGuard[SamplingModel]:
    return callable(getattr(model, "sample", None)) and hasattr(model, "sample_shape")


def _numbered(label: int | str, names: list[str]) -> int:
    if not isinstance(label, str):
        return label
    if label not in names:
        near = get_close_matches(label, names, n=3)
        known = f"nearest: {', '.join(near)}" if near else f"the model's classes: {', '.join(names) or 'without names'}"
        raise ConfigError(f"class_labels: no class {label!r}; {known}")
    return names.index(label)


def _random_labels(generators: list[torch.Generator], batch_size: int, classes: int) -> Tensor:
    """Uniform classes; drawn after the noise, so that the noise is the same whether classes are chosen or drawn."""
    shape = (batch_size // len(generators),)
    return torch.cat([torch.randint(classes, shape, generator=g, device=g.device).cpu() for g in generators])


def _formatted(images: Tensor, output_type: str) -> "list[Image] | np.ndarray | Tensor":
    if output_type == "latent":
        return images
    if output_type == "pil":
        return to_pil(images)
    unit = (images.float() / 2 + 0.5).clamp(0, 1)
    return unit if output_type == "pt" else unit.cpu().permute(0, 2, 3, 1).numpy()


def pipeline(
    name_or_path: str | os.PathLike,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    decoder: Callable[[Tensor], Tensor] | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> SamplingPipeline:
    """Load a generative model as `visionseq.load` does and wrap it in a `SamplingPipeline`, on `device` if given."""
    loaded = SamplingPipeline.from_pretrained(
        name_or_path,
        decoder=decoder,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        force_download=force_download,
        local_files_only=local_files_only,
    )
    return loaded.to(device, dtype)
