"""xLSTM as an operator of LION (arXiv 2407.18232): a pair of Vision-LSTM blocks (arXiv 2406.04303).

    x = x + mlstm(LN(x)) from the first token to the last, then the same with other weights from the last to the first

Drop path takes whole groups out of a branch's computation: of G groups int(G (1 - p)), at least one, go through it,
scaled by G over their number.

Shapes: B groups (or one row of N packed groups), T tokens, D channels.
"""

import torch
from torch import Tensor, nn

from visionseq.lion.operators.block import Block, for_each_token
from visionseq.nn.mixers.mlstm import MLSTM
from visionseq.nn.mixers.norms import ResidualLayerNorm


class XLSTMBlock(Block):
    """A block from the left and one from the right, in series, [B, T, D] -> [B, T, D].

    Args:
        d_model: D.
        layer_id, n_layer: place among the blocks of the network; of no effect here.
        n_head: heads; also the block size of the projections to q, k and v.
        expansion: inner channels / D.
        d_conv: taps of the convolution.
        proj_bias: whether projections have biases.
        with_cp, drop_path: as in `Block`.
    """

    def __init__(
        self,
        d_model: int,
        layer_id: int = 0,
        n_layer: int = 1,
        n_head: int = 4,
        expansion: int = 2,
        d_conv: int = 4,
        proj_bias: bool = True,
        with_cp: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__(with_cp, drop_path)
        layers = [MLSTM(d_model, n_head, expansion, d_conv, qkv_block=n_head, bias=proj_bias) for _ in range(2)]
        self.rowwise_from_top_left = _Normed(d_model, layers[0])
        self.rowwise_from_bot_right = _Normed(d_model, layers[1])

    def block(self, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        x_BTD = self._residual(self.rowwise_from_top_left, x_BTD, cu_seqlens, reverse)
        return self._residual(self.rowwise_from_bot_right, x_BTD, cu_seqlens, not reverse)

    def _residual(self, branch: nn.Module, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        groups = x_BTD.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
        kept = max(int(groups * (1 - self.drop_path)), 1)
        if not self.training or kept >= groups:
            return x_BTD + branch(x_BTD, cu_seqlens, reverse)
        chosen, scale = torch.randperm(groups, device=x_BTD.device)[:kept], groups / kept
        if cu_seqlens is None:
            kept_BTD = branch(x_BTD[chosen], None, reverse).to(x_BTD.dtype)
            return x_BTD.index_add(0, chosen, kept_BTD, alpha=scale)
        factor_N = x_BTD.new_zeros(groups).index_fill(0, chosen, scale)
        return x_BTD + branch(x_BTD, cu_seqlens, reverse) * for_each_token(factor_N, x_BTD, cu_seqlens)


class _Normed(nn.Module):
    """Pre-norm and layer, as official checkpoints keep them."""

    def __init__(self, dim: int, layer: MLSTM):
        super().__init__()
        self.norm = ResidualLayerNorm(dim)
        self.layer = layer

    def forward(self, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        y_BTD, _ = self.layer(self.norm(x_BTD), cu_seqlens=cu_seqlens, reverse=reverse)
        return y_BTD
