"""The scans of Mamba, RWKV-6 and RetNet on given operands."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from golden_vector import GoldenVector
from torch import Tensor

from linear_rnn_ops_handlers.compare import check_run, dtypes_of, runs_of
from visionseq.kernels.gated_linear_attention import gated_linear_attention
from visionseq.kernels.selective_scan import selective_scan
from visionseq.nn.mixers.retnet import retention_log_decay

DIRECTIONS = {"": False, "fwd_": False, "rev_": True}
ONE_WAY, BOTH_WAYS = {}, {"direction": "both"}


def check_mamba_scan(vector: GoldenVector) -> None:
    """Channels come first in these files, (B, D, L)."""
    softplus = vector.config.get("delta_softplus", "in/delta_bias" in vector)

    def scan(inputs: dict[str, Tensor], prefix: str = "", reverse: bool = False, **options) -> tuple[Tensor, Tensor]:
        timed = {
            name: inputs[prefix + name].transpose(1, 2)
            for name in ("u", "delta", "B", "C", "z")
            if prefix + name in inputs
        }
        fixed = {name: inputs[name] for name in ("A", "D", "delta_bias") if name in inputs}
        y, state = selective_scan(**timed, **fixed, delta_softplus=softplus, reverse=reverse, **options)
        return y.transpose(1, 2), state

    def run(inputs: dict[str, Tensor], reverse: bool) -> dict[str, Tensor]:
        options = {"initial_state": inputs.get("initial_state"), "cu_seqlens": inputs.get("cu_seqlens")}
        y, state = scan(inputs, reverse=reverse, **options)
        outputs = {"y": y, "last_state": state, "last_states": state}
        if "prefix_u" in inputs:
            outputs["prefix_y"], outputs["initial_state"] = scan(inputs, "prefix_")
        return outputs

    for dtype, tolerance in dtypes_of(vector, 1e-11, 2e-5):
        for prefix, reverse in runs_of(vector, DIRECTIONS):
            check_run(vector, lambda inputs, reverse=reverse: run(inputs, reverse), dtype, tolerance, prefix)


def check_rwkv6(vector: GoldenVector, plain: Mapping[str, Any] = ONE_WAY) -> None:
    """Raw decays w, so that the log decays are -exp(w)."""
    modes = {"": plain, "fwd_": ONE_WAY, "rev_": {"reverse": True}, "causal_": ONE_WAY, "bi_": BOTH_WAYS}

    def run(inputs: dict[str, Tensor], options: dict) -> dict[str, Tensor]:
        y, state = gated_linear_attention(
            *(inputs["r"], inputs["k"], inputs["v"], -inputs["w"].exp()),
            bonus=inputs["u"],
            scale=1.0,
            initial_state=inputs.get("initial_state"),
            cu_seqlens=inputs.get("cu_seqlens"),
            **options,
        )
        return {"y": y} if state is None else {"y": y, "final_state": state, "final_states": state}

    for dtype, tolerance in dtypes_of(vector, 1e-11, 1e-4):
        for prefix, options in runs_of(vector, modes):
            check_run(vector, lambda inputs, options=options: run(inputs, options), dtype, tolerance, prefix)


def check_retention(vector: GoldenVector, lion_chunks: bool = False) -> None:
    """Heads come before time in these files, (B, H, T, .)."""
    chunked = {"within": "bidirectional", "chunk_size": vector.config.get("chunk", 64)}
    modes = {"fwd_": ONE_WAY, "rev_": {"reverse": True}, "causal_": ONE_WAY, "lionchunk_": chunked}
    modes[""] = chunked if lion_chunks else ONE_WAY

    def run(inputs: dict[str, Tensor], options: dict) -> dict[str, Tensor]:
        q, k, v = (inputs[name].transpose(1, 2) for name in ("q", "k", "v"))
        y, state = gated_linear_attention(
            *(q, k, v, retention_log_decay(q.shape[2], q)),
            initial_state=inputs.get("initial_state"),
            cu_seqlens=inputs.get("cu_seqlens"),
            **options,
        )
        return {"y": y.transpose(1, 2), "final_state": state, "final_states": state}

    for dtype, tolerance in dtypes_of(vector, 1e-11, 1e-4):
        for prefix, options in runs_of(vector, modes):
            check_run(vector, lambda inputs, options=options: run(inputs, options), dtype, tolerance, prefix)


HANDLERS = {
    "mamba_scan": check_mamba_scan,
    "rwkv6_": check_rwkv6,
    "rwkv6_bi": partial(check_rwkv6, plain=BOTH_WAYS),
    "retention_": check_retention,
    "retention_lionchunk": partial(check_retention, lion_chunks=True),
}
