"""Images of a model from given noise, with a generator for the noise that a stochastic sampler adds."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def draw_images(
    model: Any,
    noise: Tensor,
    generator: torch.Generator | Sequence[torch.Generator],
    class_labels: Tensor | None = None,
    steps: int | None = None,
) -> Tensor:
    """`model.sample(noise, ...)` [B, C, H, W]; a sampler that has a parameter `generator` gets the generator.

    Args:
        model: a room's model with a sampler.
        noise: [B, C, H, W] on the device of the model.
        generator: one, or one for each image, which makes an image independent of the batch it is in.
        class_labels: int64 [B] or None.
        steps: of the sampler; None: the sampler's own.
    """
    added = {"generator": generator} if takes_generator(model) else {}
    return model.sample(noise, *(() if steps is None else (steps,)), class_labels=class_labels, **added)


def takes_generator(model: Any) -> bool:
    """Whether the sampler of a model adds noise of its own."""
    return "generator" in inspect.signature(model.sample).parameters
