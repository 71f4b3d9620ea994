"""The mixers under the contract, small, with weights that hide nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from random_modules import DIM, with_random_weights

from visionseq.nn.mixers import (
    GRU,
    LSTM,
    MLSTM,
    RWKV6,
    RWKV7,
    SLSTM,
    DeltaNet,
    GatedDeltaNet,
    GatedLinearAttention,
    Mamba,
    MinGRU,
    Mixer,
    MultiScaleRetention,
    RetNet,
    SoftmaxAttention,
    TTTLinear,
)


@dataclass(frozen=True)
class MixerCase:
    """A mixer with one choice of options.

    Args:
        name: shown by pytest.
        build: makes the mixer, of width `DIM`.
        piece: a sequence may be cut into pieces of this many tokens.
        streams: whether it takes a state.
    """

    name: str
    build: Callable[[], Mixer]
    piece: int = 1
    streams: bool = True

    def make(self, dtype: torch.dtype = torch.float64) -> Mixer:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return with_random_weights(self.build()).to(dtype)


CASES = [
    MixerCase("mamba", lambda: Mamba(DIM, d_state=4)),
    MixerCase("mamba-narrow", lambda: Mamba(DIM, d_state=3, d_conv=2, expand=1, dt_rank=2)),
    MixerCase("mamba-bidirectional", lambda: Mamba(DIM, d_state=4, bidirectional=True), streams=False),
    MixerCase("retnet-causal", lambda: RetNet(DIM, 2, causal=True)),
    MixerCase("retnet-chunk", lambda: RetNet(DIM, 2, expand_k=0.5, chunk_size=4), piece=4),
    MixerCase("retention", lambda: MultiScaleRetention(DIM, 2, value_dim=12)),
    MixerCase("retention-parallel", lambda: MultiScaleRetention(DIM, 2, parallel=True), streams=False),
    MixerCase("rwkv6", lambda: RWKV6(DIM, 2, layer_id=1, n_layer=3)),
    MixerCase("rwkv6-bidirectional", lambda: RWKV6(DIM, 2, bidirectional=True), streams=False),
    MixerCase("rwkv7", lambda: RWKV7(DIM, 2)),
    MixerCase("mlstm", lambda: MLSTM(DIM, heads=2, qkv_block=4)),
    MixerCase("slstm", lambda: SLSTM(DIM, heads=2)),
    MixerCase("ttt", lambda: TTTLinear(DIM, 2, mini_batch_size=4)),
    MixerCase("ttt-gated", lambda: TTTLinear(DIM, 2, mini_batch_size=1, use_gate=True)),
    MixerCase("ttt-mean", lambda: TTTLinear(DIM, 2, mini_batch_size=4, bidirectional="mean"), streams=False),
    MixerCase("gla-key", lambda: GatedLinearAttention(DIM, 2)),
    MixerCase("gla-head", lambda: GatedLinearAttention(DIM, 2, expand_k=1, gate="head")),
    MixerCase("delta_net", lambda: DeltaNet(DIM, 2)),
    MixerCase("gated_delta_net", lambda: GatedDeltaNet(DIM, 2, d_conv=3, largest_beta=2)),
    MixerCase("lstm", lambda: LSTM(DIM, 2)),
    MixerCase("gru", lambda: GRU(DIM)),
    MixerCase("min_gru", lambda: MinGRU(DIM)),
    MixerCase("attention", lambda: SoftmaxAttention(DIM, 2)),
    MixerCase("attention-bidirectional", lambda: SoftmaxAttention(DIM, 2, causal=False), streams=False),
]
