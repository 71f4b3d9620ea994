"""Mamba as an operator of LION (arXiv 2407.18232): both directions, post-norm residual, no MLP.

x + LN(mamba(x)),   or x + mamba(LN(x)) without `post_norm`
"""

from torch import Tensor, nn

from visionseq.lion.operators.block import Block
from visionseq.nn.mixers.mamba import Mamba


class MambaBlock(Block):
    """Two-directional Mamba with its residual, [B, T, D] -> [B, T, D].

    Args:
        d_model: D.
        layer_id, n_layer: place among the blocks of the network; of no effect here.
        d_state, d_conv, expand: as in `Mamba`.
        post_norm: norm the branch rather than its input.
        with_cp, drop_path: as in `Block`.
    """

    def __init__(
        self,
        d_model: int,
        layer_id: int = 0,
        n_layer: int = 1,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        post_norm: bool = True,
        with_cp: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__(with_cp, drop_path)
        self.post_norm = post_norm
        self.mamba = Mamba(d_model, d_state, d_conv, expand, bidirectional=True)
        self.norm = nn.LayerNorm(d_model)

    def block(self, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        branch, _ = self.mamba(x_BTD if self.post_norm else self.norm(x_BTD), cu_seqlens=cu_seqlens, reverse=reverse)
        return x_BTD + self.dropped(self.norm(branch) if self.post_norm else branch, cu_seqlens)
