"""Activation checkpointing: blocks store only their input and are computed again in the backward pass."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(model: nn.Module) -> int:
    """Make each block of `model` recompute its activations; returns the number of blocks.

    Blocks are the outermost elements of module lists and dicts. Gradients stay the same, since random draws such as
    dropout are repeated. Parameter names do not change.
    """
    blocks = list(_blocks(model))
    for block in blocks:
        block.forward = partial(recomputed, block.forward)
    return len(blocks)


def recomputed(function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    """function(*inputs, **options); its activations are not stored but computed again in the backward pass."""
    if not torch.is_grad_enabled():
        return function(*inputs, **options)
    return checkpoint(function, *inputs, use_reentrant=False, **options)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost elements of module lists and dicts that have parameters."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from (block for block in child.children() if any(True for _ in block.parameters()))
        else:
            yield from _blocks(child)
