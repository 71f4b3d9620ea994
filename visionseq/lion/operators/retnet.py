"""RetNet as an operator of LION (arXiv 2407.18232): both directions inside chunks of 64 tokens, the past across them.

x = x + retention(LN(x)),   x = x + W_2 gelu(W_1 LN(x))
"""

import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.lion.operators.block import Block
from visionseq.nn.mixers.retnet import RetNet

NORM_EPS = 1e-6


class RetNetBlock(Block):
    """LION's retention with its MLP and residuals, [B, T, D] -> [B, T, D].

    Args:
        d_model: D.
        layer_id, n_layer: place among the blocks of the network; of no effect here.
        n_head: heads; checkpoints do not record the number, and the decays depend on it.
        expand_k, expand_v: as in `RetNet`.
        hidden_rate: hidden channels of the MLP / D.
        with_cp, drop_path: as in `Block`.
    """

    def __init__(
        self,
        d_model: int,
        layer_id: int = 0,
        n_layer: int = 1,
        n_head: int = 4,
        expand_k: float = 1,
        expand_v: float = 2,
        hidden_rate: int = 4,
        with_cp: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__(with_cp, drop_path)
        self.retention_layer_norm = nn.LayerNorm(d_model, eps=NORM_EPS)
        self.final_layer_norm = nn.LayerNorm(d_model, eps=NORM_EPS)
        self.multi_scale_retention = RetNet(d_model, n_head, expand_k, expand_v)
        self.ffn = _FeedForward(d_model, hidden_rate * d_model)

    def block(self, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        normed = self.retention_layer_norm(x_BTD)
        branch, _ = self.multi_scale_retention(normed, cu_seqlens=cu_seqlens, reverse=reverse)
        x_BTD = x_BTD + self.dropped(branch, cu_seqlens)
        return x_BTD + self.dropped(self.ffn(self.final_layer_norm(x_BTD)), cu_seqlens)


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
