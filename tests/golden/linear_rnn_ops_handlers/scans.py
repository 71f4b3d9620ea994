"""The scans of Mamba, RWKV-6 and RetNet on given operands."""

from golden_vector import GoldenVector
from torch import Tensor

from linear_rnn_ops_handlers.compare import check_run, dtypes_of, runs_of
from visionseq.kernels.gated_linear_attention import gated_linear_attention
from visionseq.kernels.selective_scan import selective_scan
from visionseq.nn.mixers.retnet import retention_log_decay

DIRECTIONS = {"": False, "fwd_": False, "rev_": True}


def check_mamba_scan(vector: GoldenVector) -> None:
    """Channels come first in these files, (B, D, L)."""
    softplus = vector.config.get("delta_softplus", "in/delta_bias" in vector)

    def scan(given: dict[str, Tensor], prefix: str = "", reverse: bool = False, **options) -> tuple[Tensor, Tensor]:
        timed = {
            name: given[prefix + name].transpose(1, 2)
            for name in ("u", "delta", "B", "C", "z")
            if prefix + name in given
        }
        fixed = {name: given[name] for name in ("A", "D", "delta_bias") if name in given}
        y, state = selective_scan(**timed, **fixed, delta_softplus=softplus, reverse=reverse, **options)
        return y.transpose(1, 2), state

    def run(given: dict[str, Tensor], reverse: bool) -> dict[str, Tensor]:
        options = {"initial_state": given.get("initial_state"), "cu_seqlens": given.get("cu_seqlens")}
        y, state = scan(given, reverse=reverse, **options)
        outputs = {"y": y, "last_state": state, "last_states": state}
        if "prefix_u" in given:
            outputs["prefix_y"], outputs["initial_state"] = scan(given, "prefix_")
        return outputs

    for dtype, tolerance in dtypes_of(vector, 1e-11, 2e-5):
        for prefix, reverse in runs_of(vector, DIRECTIONS):
            check_run(vector, lambda given, reverse=reverse: run(given, reverse), dtype, tolerance, prefix)


def check_rwkv6(vector: GoldenVector) -> None:
    """Raw decays w, so that the log decays are -exp(w)."""
    modes = {"fwd_": {}, "rev_": {"reverse": True}, "causal_": {}, "bi_": {"direction": "both"}}
    modes[""] = {"direction": "both"} if vector.path.stem.startswith("rwkv6_bi") else {}

    def run(given: dict[str, Tensor], options: dict) -> dict[str, Tensor]:
        y, state = gated_linear_attention(
            *(given["r"], given["k"], given["v"], -given["w"].exp()),
            bonus=given["u"],
            scale=1.0,
            initial_state=given.get("initial_state"),
            cu_seqlens=given.get("cu_seqlens"),
            **options,
        )
        return {"y": y} if state is None else {"y": y, "final_state": state, "final_states": state}

    for dtype, tolerance in dtypes_of(vector, 1e-11, 1e-4):
        for prefix, options in runs_of(vector, modes):
            check_run(vector, lambda given, options=options: run(given, options), dtype, tolerance, prefix)


def check_retention(vector: GoldenVector) -> None:
    """Heads come before time in these files, (B, H, T, .)."""
    chunked = {"within": "bidirectional", "chunk_size": vector.config.get("chunk", 64)}
    modes = {"fwd_": {}, "rev_": {"reverse": True}, "causal_": {}, "lionchunk_": chunked}
    modes[""] = chunked if vector.path.stem.startswith("retention_lionchunk") else {}

    def run(given: dict[str, Tensor], options: dict) -> dict[str, Tensor]:
        q, k, v = (given[name].transpose(1, 2) for name in ("q", "k", "v"))
        y, state = gated_linear_attention(
            *(q, k, v, retention_log_decay(q.shape[2], q)),
            initial_state=given.get("initial_state"),
            cu_seqlens=given.get("cu_seqlens"),
            **options,
        )
        return {"y": y.transpose(1, 2), "final_state": state, "final_states": state}

    for dtype, tolerance in dtypes_of(vector, 1e-11, 1e-4):
        for prefix, options in runs_of(vector, modes):
            check_run(vector, lambda given, options=options: run(given, options), dtype, tolerance, prefix)


HANDLERS = {"mamba_scan": check_mamba_scan, "rwkv6_": check_rwkv6, "retention_": check_retention}
