"""TTT-Linear as an operator of LION (arXiv 2407.18232): one direction, pre-norm, SwiGLU MLP.

x = x + ttt(RMSNorm(x)),   x = x + W_d (silu(W_g n) * W_u n) with n = RMSNorm(x)
"""

import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.lion.operators.block import Block
from visionseq.nn.mixers.norms import RMSNorm
from visionseq.nn.mixers.ttt import TTTLinear

NORM_EPS = 1e-6


class TTTBlock(Block):
    """TTT-Linear with its MLP and residuals, [B, T, D] -> [B, T, D].

    Args:
        d_model: D.
        layer_id, n_layer: place among the blocks of the network; of no effect here.
        n_head: heads.
        use_gate, mini_batch_size, base_lr, rope_theta: as in `TTTLinear`.
        hidden_rate: hidden channels of the MLP / D.
        bidirectional: None as in LION, or "mean" for the mean of a pass in each direction.
        with_cp, drop_path: as in `Block`; the MLP has no drop path.
    """

    def __init__(
        self,
        d_model: int,
        layer_id: int = 0,
        n_layer: int = 1,
        n_head: int = 4,
        use_gate: bool = False,
        mini_batch_size: int = 16,
        base_lr: float = 1.0,
        rope_theta: float = 10000.0,
        hidden_rate: int = 2,
        bidirectional: str | None = None,
        with_cp: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__(with_cp, drop_path)
        self.seq_modeling_block = TTTLinear(
            d_model, n_head, mini_batch_size, base_lr, rope_theta, use_gate, bidirectional
        )
        self.mlp = _SwiGLU(d_model, hidden_rate * d_model)
        self.seq_norm = RMSNorm(d_model, eps=NORM_EPS)
        self.ffn_norm = RMSNorm(d_model, eps=NORM_EPS)

    def block(self, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        branch, _ = self.seq_modeling_block(self.seq_norm(x_BTD), cu_seqlens=cu_seqlens, reverse=reverse)
        x_BTD = x_BTD + self.dropped(branch, cu_seqlens)
        return x_BTD + self.mlp(self.ffn_norm(x_BTD))


class _SwiGLU(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
