"""Stacks of the same width and depth from timm and diffusers, as peers of our blocks."""

from functools import partial

import torch
from torch import Tensor, nn

from visionseq.errors import import_extra


class TimmBlocks(nn.Module):
    """timm's ViT blocks (`timm.models.vision_transformer.Block`) with our GELU; they have no modulation."""

    def __init__(self, dim: int, heads: int, depth: int):
        super().__init__()
        block = import_extra("timm.models.vision_transformer", "bench").Block
        gelu = partial(nn.GELU, approximate="tanh")
        self.blocks = nn.Sequential(*(block(dim, heads, qkv_bias=True, act_layer=gelu) for _ in range(depth)))

    def forward(self, x_BND: Tensor, c_BD: Tensor) -> Tensor:
        return self.blocks(x_BND)


class DiffusersBlocks(nn.Module):
    """diffusers' DiT blocks (`BasicTransformerBlock` with adaLN-Zero); each embeds time and class by itself."""

    def __init__(self, dim: int, heads: int, depth: int):
        super().__init__()
        block = import_extra("diffusers.models.attention", "bench").BasicTransformerBlock
        self.blocks = nn.ModuleList(
            block(
                dim,
                num_attention_heads=heads,
                attention_head_dim=dim // heads,
                activation_fn="gelu-approximate",
                num_embeds_ada_norm=1000,
                attention_bias=True,
                norm_type="ada_norm_zero",
                norm_elementwise_affine=False,
            )
            for _ in range(depth)
        )

    def forward(self, x_BND: Tensor, c_BD: Tensor) -> Tensor:
        steps = torch.zeros(len(x_BND), dtype=torch.int64, device=x_BND.device)
        for block in self.blocks:
            x_BND = block(x_BND, timestep=steps, class_labels=steps)
        return x_BND
