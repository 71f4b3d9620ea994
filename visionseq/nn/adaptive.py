"""The transformer block with adaptive layer norms, adaLN-Zero (DiT, arXiv 2212.09748, section 3.2).

    (1)  shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = W silu(c) + b
    (2)  x <- x + gate_a attention(norm(x) (1 + scale_a) + shift_a)
    (3)  x <- x + gate_m MLP(norm(x) (1 + scale_m) + shift_m)

The last layer of every modulation starts at zero, so a new block is the identity. Names of parameters are those of DiT
and SiT (arXiv 2401.08740).

Legend: B batch, N tokens, D width, H heads, K channels of a head, E width of the condition c.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.nn.embeddings import rotate_pairs

EPS = 1e-6


def modulate(x_BND: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift, with shift and scale for each sample [B, D] or each token [B, N, D]."""
    if shift.ndim < x_BND.ndim:
        shift, scale = shift.unsqueeze(1), scale.unsqueeze(1)
    return x_BND * (1 + scale) + shift


def plain_norm(dim: int) -> nn.LayerNorm:
    """A layer norm without weight and bias."""
    return nn.LayerNorm(dim, EPS, elementwise_affine=False)


class Attention(nn.Module):
    """Softmax attention among all tokens [B, N, D].

    Args:
        dim: D.
        num_heads: H.
        qkv_bias: biases of queries, keys and values.
        q_norm, k_norm: norms of each head's queries and keys [..., K]; None: none.

    Raises `ConfigError` where D does not divide into H heads.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
    ):
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"attention: {dim} channels do not divide into {num_heads} heads")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm, self.k_norm = q_norm or nn.Identity(), k_norm or nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor, angles: Tensor | None = None) -> Tensor:
        """Attention [B, N, D]; `angles` [N, K/2] of rotary positions turn queries and keys."""
        # Queries, keys and values [B, N, H, K].
        q, k, v = self.qkv(x_BND).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = rotate_pairs(q, angles), rotate_pairs(k, angles)

        # Softmax attention of each head.
        heads_first = [part.transpose(1, 2).to(v.dtype) for part in (q, k, v)]
        y_BHNK = F.scaled_dot_product_attention(*heads_first)
        return self.proj(y_BHNK.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """D -> hidden -> D with a GELU (tanh form) between.

    Args:
        dim: D.
        hidden: width of the middle.
        bias: biases of both maps.
    """

    def __init__(self, dim: int, hidden: int, bias: bool = True):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden, bias=bias), nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class AdaptiveBlock(nn.Module):
    """adaLN-Zero block: forward(x [B, N, D], c [B, E] or [B, N, E]) -> [B, N, D].

    Args:
        dim: D.
        attn: attention among the tokens.
        mlp: map of each token.
        condition_dim: E; None: D.
        modulation: map of c to the six parts [..., 6 D]; None: SiLU and one linear layer that starts at zero.
        norm: D -> a norm of the tokens, called for each of the two.
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Module,
        mlp: nn.Module,
        condition_dim: int | None = None,
        modulation: nn.Module | None = None,
        norm: Callable[[int], nn.Module] = plain_norm,
    ):
        super().__init__()
        self.attn, self.mlp = attn, mlp
        self.norm1, self.norm2 = norm(dim), norm(dim)
        self.adaLN_modulation = modulation or zero_modulation(condition_dim or dim, 6 * dim)

    def forward(
        self,
        x_BND: Tensor,
        c: Tensor,
        shared: Tensor | None = None,
        attend: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """One block.

        Args:
            x_BND: tokens.
            c: condition of each sample or token.
            shared: [..., 6 D], added to the modulation; blocks may share it.
            attend: what is called instead of `attn`, where attention needs more than tokens: positions, a state.
        """
        # eq. (1)
        parts = self.adaLN_modulation(c)
        parts = parts if shared is None else parts + shared
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts.chunk(6, dim=-1)

        # eqs. (2) and (3)
        x_BND = x_BND + _per_token(gate_a, x_BND) * (attend or self.attn)(modulate(self.norm1(x_BND), shift_a, scale_a))
        return x_BND + _per_token(gate_m, x_BND) * self.mlp(modulate(self.norm2(x_BND), shift_m, scale_m))


class AdaptiveOutput(nn.Module):
    """The last layer: a modulated norm and a linear map that starts at zero, [B, N, D] -> [B, N, out].

    Args:
        dim: D.
        out_features: channels of an output token.
        condition_dim: E; None: D.
        modulation: map of c to shift and scale [..., 2 D]; None: SiLU and one linear layer that starts at zero.
        norm: D -> the norm of the tokens.
    """

    def __init__(
        self,
        dim: int,
        out_features: int,
        condition_dim: int | None = None,
        modulation: nn.Module | None = None,
        norm: Callable[[int], nn.Module] = plain_norm,
    ):
        super().__init__()
        self.norm_final = norm(dim)
        self.adaLN_modulation = modulation or zero_modulation(condition_dim or dim, 2 * dim)
        self.linear = zeroed(nn.Linear(dim, out_features))

    def forward(self, x_BND: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x_BND), shift, scale))


def zero_modulation(condition_dim: int, out_features: int) -> nn.Sequential:
    """SiLU and a linear layer that starts at zero."""
    return nn.Sequential(nn.SiLU(), zeroed(nn.Linear(condition_dim, out_features)))


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with its weight and bias set to zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _per_token(gate: Tensor, x_BND: Tensor) -> Tensor:
    """A gate of each sample [B, D] or token [B, N, D], in a shape that multiplies tokens."""
    return gate if gate.ndim == x_BND.ndim else gate.unsqueeze(1)
