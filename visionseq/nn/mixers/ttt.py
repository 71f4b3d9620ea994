"""TTT-Linear: the state is a linear map, trained on the sequence while it is read (arXiv 2407.04620).

    z_s = k_s W + b,   g_s = gradient by z_s of 1/2 |LN(z_s) - (v_s - k_s)|^2 at the W, b that began the mini-batch
    W_t = W - sum_{s<=t} eta_ts k_s g_s^T,   b_t = b - sum_{s<=t} eta_ts g_s,   o_t = q_t + LN(q_t W_t + b_t)

Parameters have the names of the official checkpoints.

Shapes: B sequences, T tokens, D channels, H heads of K, M tokens of a mini-batch, N states.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.ttt_linear import ttt_linear
from visionseq.nn.embeddings import rotate_pairs
from visionseq.nn.mixers.mini_batches import ArrangedTokens, TTTState, arrange
from visionseq.nn.mixers.mixer import Mixer
from visionseq.nn.mixers.packing import flip_tokens, token_positions
from visionseq.nn.precision import at_least_float32

INNER_NORM_EPS = 1e-6


class TTTLinear(Mixer):
    """Test-time training of a linear map per head.

    Args:
        dim: D.
        heads: H.
        mini_batch_size: M.
        base_lr: learning rate of the inner descent before its learned factors.
        rope_theta: base of the rotary positions, which count within a mini-batch.
        use_gate: multiply the normed output by gelu(W_g x).
        bidirectional: None, or "mean" for the mean of a pass in each direction; such a mixer has no state.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mini_batch_size: int = 16,
        base_lr: float = 1.0,
        rope_theta: float = 10000.0,
        use_gate: bool = False,
        bidirectional: str | None = None,
    ):
        super().__init__()
        if dim % (2 * heads):
            raise ConfigError(f"TTTLinear: {dim} channels do not divide into {heads} heads of even size")
        if bidirectional not in (None, "mean"):
            raise ConfigError(f"TTTLinear: bidirectional={bidirectional!r}, expected None or 'mean'")
        self.direction = "both" if bidirectional else "past"
        self.heads, self.mini_batch_size, self.base_lr, self.rope_theta = heads, mini_batch_size, base_lr, rope_theta
        size = dim // heads
        self.W1 = nn.Parameter(0.02 * torch.randn(heads, size, size))
        self.b1 = nn.Parameter(torch.zeros(heads, 1, size))
        self.ttt_norm_weight = nn.Parameter(torch.ones(heads, size))
        self.ttt_norm_bias = nn.Parameter(torch.zeros(heads, size))
        self.learnable_ttt_lr_weight = nn.Parameter(0.02 * torch.randn(heads, 1, dim))
        self.learnable_ttt_lr_bias = nn.Parameter(torch.zeros(heads, 1))
        self.learnable_token_idx = nn.Parameter(torch.zeros(mini_batch_size))
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)
        self.post_norm = nn.LayerNorm(dim, eps=1e-6)
        self.g_proj = nn.Linear(dim, dim, bias=False) if use_gate else None

    def forward(
        self, x_BTD: Tensor, state: TTTState | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, TTTState | None]:
        self.check(x_BTD, state, cu_seqlens)
        if self.direction == "past":
            return self._one_way(x_BTD, state, cu_seqlens, reverse)
        y_BTD, _ = self._one_way(x_BTD, None, cu_seqlens, reverse)
        from_right_BTD, _ = self._one_way(x_BTD, None, cu_seqlens, not reverse)
        return (y_BTD + from_right_BTD) / 2, None

    def step(self, x_BD: Tensor, state: TTTState | None = None) -> tuple[Tensor, TTTState]:
        self.check_step(x_BD, state)
        y_BTD, state = self._one_way(x_BD.unsqueeze(1), state, None, False)
        return y_BTD[:, 0], state

    def averages(self, dtype: torch.dtype) -> Tensor:
        """1/(t+1) [M], what learning rates are made from: over the tokens of a mini-batch, gradients are averaged."""
        return 1 / torch.arange(1, self.mini_batch_size + 1, device=self.W1.device, dtype=dtype)

    def _one_way(
        self, x_BTD: Tensor, state: TTTState | None, cu_seqlens: Tensor | None, reverse: bool
    ) -> tuple[Tensor, TTTState]:
        x_BTD = flip_tokens(x_BTD, cu_seqlens) if reverse else x_BTD
        tokens = arrange(x_BTD, state, cu_seqlens, self.mini_batch_size)
        q, k, v, eta_row, eta_col = self._operands(tokens)
        o_BTHK, (W, b) = ttt_linear(
            *(q, k, v, eta_row, eta_col, self.ttt_norm_weight, self.ttt_norm_bias),
            mini_batch_size=self.mini_batch_size,
            eps=INNER_NORM_EPS,
            initial_state=self._fast_weights(tokens, state),
            cu_seqlens=tokens.cu_seqlens,
        )
        normed = F.layer_norm(at_least_float32(o_BTHK), o_BTHK.shape[-1:], eps=INNER_NORM_EPS)
        read_BTHK = q + (normed * self.ttt_norm_weight + self.ttt_norm_bias).to(q.dtype)
        y_BTD = self._output(x_BTD, tokens.original(read_BTHK).flatten(-2))
        count = tokens.carried_count.shape[0]
        state = TTTState(W[:count].clone(), b[:count].clone(), tokens.carried, tokens.carried_count)
        return flip_tokens(y_BTD, cu_seqlens) if reverse else y_BTD, state

    def _operands(self, tokens: ArrangedTokens) -> tuple[Tensor, ...]:
        """q, k, v [B, T, H, K] and the two factors of the learning rate [B, T, H] of the arranged tokens."""
        x_BTD, size = tokens.x_BTD, self.W1.shape[1]
        q, k, v = (proj(x_BTD).unflatten(-1, (self.heads, -1)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        place_T = token_positions(x_BTD.shape[1], tokens.cu_seqlens, False, x_BTD.device) % self.mini_batch_size
        frequency_P = self.rope_theta ** (-torch.arange(0, size, 2, device=x_BTD.device) / size)
        angle_TP = place_T.unsqueeze(-1) * frequency_P
        rate_BTH = F.linear(x_BTD, self.learnable_ttt_lr_weight.squeeze(1), self.learnable_ttt_lr_bias.squeeze(1))
        eta_col = self.base_lr / size * torch.sigmoid(at_least_float32(rate_BTH))
        row_M = (self.averages(eta_col.dtype) + self.learnable_token_idx).clamp(min=0)
        row_T = row_M[place_T].masked_fill(tokens.is_closing_T, 0)  # a closing token teaches nothing
        eta_row = row_T.unsqueeze(-1).expand_as(eta_col)
        return rotate_pairs(q, angle_TP), rotate_pairs(k, angle_TP), v, eta_row, eta_col

    def _fast_weights(self, tokens: ArrangedTokens, state: TTTState | None) -> tuple[Tensor, Tensor]:
        """W [N, H, K, K] and b [N, H, K] at the start of each arranged sequence: learned, where none are carried."""
        W_HKK, b_HK = at_least_float32(self.W1), at_least_float32(self.b1).squeeze(1)
        carried = 0 if state is None else state.W.shape[0]
        W = W_HKK.expand(tokens.sequences - carried, -1, -1, -1)
        b = b_HK.expand(tokens.sequences - carried, -1, -1)
        return (W, b) if state is None else (torch.cat([state.W, W]), torch.cat([state.b, b]))

    def _output(self, x_BTD: Tensor, read_BTD: Tensor) -> Tensor:
        y_BTD = self.post_norm(read_BTD)
        if self.g_proj is not None:
            y_BTD = F.gelu(self.g_proj(x_BTD), approximate="tanh") * y_BTD
        return self.o_proj(y_BTD)
