"""The cells of xLSTM and the inner loop of TTT on given operands."""

import torch
import torch.nn.functional as F
from golden_vector import GoldenVector
from torch import Tensor

from linear_rnn_ops_handlers.compare import check_run, close_in, dtypes_of, leaves_of, runs_of
from visionseq.kernels.mlstm import mlstm
from visionseq.kernels.recurrent_cell import recurrent_cell
from visionseq.kernels.ttt_linear import ttt_linear

FORMS = 1e-4  # between the parallel, recurrent and chunkwise forms, which differ through eps
State = tuple[Tensor, Tensor, Tensor]


def check_mlstm(vector: GoldenVector) -> None:
    """Heads come before time; outputs are those of the parallel form, states those of the recurrent one from m = 0."""

    def run(inputs: dict[str, Tensor], initial: State | None, reverse: bool = False) -> dict[str, Tensor]:
        operands = (inputs[name].transpose(1, 2) for name in ("q", "k", "v", "i", "f"))
        options = {"initial_state": initial, "reverse": reverse, "cu_seqlens": inputs.get("cu_seqlens")}
        y, (C, n, m) = mlstm(*operands, **options)
        return {"y": y.transpose(1, 2), "C": C, "n": n.unsqueeze(-1), "m": m[..., None, None]}

    def from_state(inputs: dict[str, Tensor], reverse: bool) -> dict[str, Tensor]:
        initial = (inputs["C0"], inputs["n0"].squeeze(-1), inputs["m0"][..., 0, 0])
        return run(inputs, initial, reverse)

    if "in/C0" in vector:
        for dtype, tolerance in dtypes_of(vector, 1e-10, 2e-4):
            for prefix, reverse in runs_of(vector, {"": False, "fwd_": False, "rev_": True}):
                check_run(vector, lambda inputs, reverse=reverse: from_state(inputs, reverse), dtype, tolerance, prefix)
        return
    for dtype, tolerance in dtypes_of(vector, 1e-10, 1e-4):
        check_run(vector, lambda inputs: {"y": run(inputs, None)["y"]}, dtype, tolerance)
        if "out/C" not in vector:
            continue
        inputs = leaves_of(vector, dtype)
        outputs = run(inputs, _zero_state(vector, inputs["q"]))
        for name in ("C", "n", "m"):
            close_in(vector, f"out/{name}", outputs[name], tolerance, dtype)
        _check_forms(vector, outputs)


def _zero_state(vector: GoldenVector, q_BHTK: Tensor) -> State:
    """C = n = 0 and m = 0 for each sequence."""
    C, n, m = (torch.zeros_like(vector[f"out/{name}"], dtype=q_BHTK.dtype) for name in ("C", "n", "m"))
    return C, n.squeeze(-1), m[..., 0, 0]


def _check_forms(vector: GoldenVector, outputs: dict[str, Tensor]) -> None:
    """The official recurrent and chunkwise forms; the latter scales q in place of k, and has another m."""
    for form in ("y_recurrent", "y_chunkwise"):
        vector.close(f"out/{form}", outputs["y"], FORMS)
    if "out/chunk_C" in vector:
        C, n, m = outputs["C"], outputs["n"].squeeze(-1), outputs["m"]
        factor = C.shape[-2] ** 0.5 * torch.exp(
            m - vector.expected("out/chunk_m")
        )  # any m serves, the states follow it
        vector.close("out/chunk_C", C * factor, FORMS)
        vector.close("out/chunk_n", n * factor.squeeze(-1), FORMS)


def check_slstm(vector: GoldenVector) -> None:
    """Time comes first, (S, B, 4 H), with the gates i, f, z, o as blocks of H = heads * head_dim."""
    heads = vector["in/R"].shape[0]

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = inputs["x"].transpose(0, 1).unflatten(-1, (4, heads, -1))
        R = inputs["R"].unflatten(1, (4, -1)).transpose(0, 1)
        initial = inputs.get("initial_states")
        if initial is not None:
            initial = initial.unflatten(-1, (heads, -1)).transpose(0, 1)
        states, last = recurrent_cell(
            *(x, R, inputs["b"].unflatten(0, (4, heads, -1))),
            cell="slstm",
            normalizer_floor=None,
            initial_state=initial,
        )
        first = torch.zeros_like(last) if initial is None else initial
        states = torch.cat([first.unsqueeze(1), states], 1).flatten(-2)  # [B, S + 1, 4, H]
        return {
            "y": states[:, 1:, 0].transpose(0, 1),
            "last": last.flatten(-2).transpose(0, 1),
            "states_all": states.permute(2, 1, 0, 3),
        }

    for dtype, tolerance in dtypes_of(vector, 1e-11, 1e-4):
        check_run(vector, run, dtype, tolerance)


def check_ttt_linear(vector: GoldenVector) -> None:
    """Mini-batches (B, heads, mini-batches, K, f), and the shorter last one apart from them."""
    mini_batch = vector["in/XK"].shape[3]

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        def tokens(name: str, axis: int = -1) -> Tensor:
            parts = [inputs[key] for key in (name, f"rem_{name}") if key in inputs]
            return torch.cat([part.movedim(axis, -1).flatten(2, 3) for part in parts], 2).transpose(1, 2)

        q, k, v = tokens("XQ"), tokens("XK"), tokens("XV")
        row, col = tokens("token_eta").squeeze(-1), tokens("ttt_lr_eta", -2).squeeze(-1)
        weight, bias = inputs["ttt_norm_weight"], inputs["ttt_norm_bias"]
        o, (W, b) = ttt_linear(
            *(q, k, v, row, col, weight, bias),
            mini_batch_size=mini_batch,
            initial_state=(inputs["W0"], inputs["b0"].squeeze(2)),
        )
        y = q + F.layer_norm(o, o.shape[-1:], eps=1e-6) * weight + bias
        return {"y": y.flatten(-2), "W_last": W, "b_last": b.unsqueeze(2)}

    for dtype, tolerance in dtypes_of(vector, 1e-10, 2e-4):
        check_run(vector, run, dtype, tolerance)


HANDLERS = {"mlstm_": check_mlstm, "slstm": check_slstm, "ttt_linear": check_ttt_linear}
