"""Activation checkpointing: blocks keep only their input and are computed again in the backward pass."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(model: nn.Module) -> int:
    """Make each block of `model` recompute its activations; returns the number of blocks.

    Blocks are the outermost elements of module lists and dicts. Gradients stay the same, since random draws such as
    dropout are repeated. Parameter names do not change.
    """
    blocks = list(_blocks(model))
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return len(blocks)


def _blocks(module: nn.Module):
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from (block for block in child.children() if any(True for _ in block.parameters()))
        else:
            yield from _blocks(child)
