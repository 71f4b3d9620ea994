"""RWKV-6 as an operator of LION (arXiv 2407.18232), after Vision-RWKV (arXiv 2403.02308).

    x = x + gamma_1 * spatial_mix(LN(x)),   x = x + gamma_2 * channel_mix(LN(x))

The spatial mix reads both directions; the token shifts look back only. The first block of a network norms its input.

Shapes: B sequences, T tokens, D channels.
"""

import torch
from torch import Tensor, nn

from visionseq.lion.operators.block import Block
from visionseq.nn.mixers.causal_conv import previous_token
from visionseq.nn.mixers.rwkv6 import RWKV6, depth_fractions


class RWKV6Block(Block):
    """Two-directional RWKV-6 with its channel mix and residuals, [B, T, D] -> [B, T, D].

    Args:
        d_model: D.
        layer_id, n_layer: place among the blocks of the network, on which the initial values depend.
        n_head: heads; any number that divides D.
        hidden_rate: hidden channels of the channel mix / D.
        init_values: initial value of the layer scales gamma; None for no scales.
        with_cp, drop_path: as in `Block`.
    """

    def __init__(
        self,
        d_model: int,
        layer_id: int = 0,
        n_layer: int = 1,
        n_head: int = 4,
        hidden_rate: int = 4,
        init_values: float | None = 1e-5,
        with_cp: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__(with_cp, drop_path)
        self.gamma1 = self.gamma2 = None
        if init_values is not None:
            self.gamma1 = nn.Parameter(torch.full((d_model,), init_values))
            self.gamma2 = nn.Parameter(torch.full((d_model,), init_values))
        self.ln1 = nn.LayerNorm(d_model)
        self.ln2 = nn.LayerNorm(d_model)
        self.ln0 = nn.LayerNorm(d_model) if layer_id == 0 else None
        self.att = RWKV6(d_model, n_head, layer_id, n_layer, bidirectional=True)
        self.ffn = ChannelMix(d_model, hidden_rate, layer_id, n_layer)

    def block(self, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        x_BTD = x_BTD if self.ln0 is None else self.ln0(x_BTD)
        branch, _ = self.att(self.ln1(x_BTD), cu_seqlens=cu_seqlens, reverse=reverse)
        x_BTD = x_BTD + self.dropped(_scaled(branch, self.gamma1), cu_seqlens)
        branch = self.ffn(self.ln2(x_BTD), cu_seqlens, reverse)
        return x_BTD + self.dropped(_scaled(branch, self.gamma2), cu_seqlens)


class ChannelMix(nn.Module):
    """sig(W_r x_r) * W_v relu(W_k x_k)^2, with x_k and x_r mixtures of a token and its change from the one before.

    As in Vision-RWKV's code, a mixture is mu x_t + (1 - mu) (x_{t-1} - x_t); RWKV itself has x_{t-1} for the change.
    """

    def __init__(self, dim: int, hidden_rate: int, layer_id: int, n_layer: int):
        super().__init__()
        _, left = depth_fractions(layer_id, n_layer)
        mixture = ((torch.arange(dim) / dim) ** left).view(1, 1, dim)
        self.spatial_mix_k = nn.Parameter(mixture.clone())
        self.spatial_mix_r = nn.Parameter(mixture.clone())
        self.key = nn.Linear(dim, hidden_rate * dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(hidden_rate * dim, dim, bias=False)

    def forward(self, x_BTD: Tensor, cu_seqlens: Tensor | None = None, reverse: bool = False) -> Tensor:
        previous_BTD, _ = previous_token(x_BTD, None, cu_seqlens, reverse)
        change_BTD = previous_BTD - x_BTD
        k_BTD, r_BTD = (
            x_BTD * mixture + change_BTD * (1 - mixture) for mixture in (self.spatial_mix_k, self.spatial_mix_r)
        )
        return torch.sigmoid(self.receptance(r_BTD)) * self.value(torch.relu(self.key(k_BTD)).square())


def _scaled(branch: Tensor, gamma: Tensor | None) -> Tensor:
    return branch if gamma is None else gamma * branch
