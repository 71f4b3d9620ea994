"""The kernel that the room calls, against the official operator: the recurrence alone, and the whole attention."""

import torch
from golden_vector import GoldenVector, first_number
from torch import Tensor

from visionseq.kernels import chunk_gated_attention

DOUBLE, GRADIENTS = 1e-10, 1e-4


def check_state_scan(vector: GoldenVector) -> None:
    """A chunk whose keys are unit vectors writes its values: the memory is then that of the file's recurrence."""
    tolerance = first_number(vector.tolerance, 3e-5)
    for initial, states, prefix in (("in/initial_state", "states", ""), (None, "states_zero_init", "zero_init/")):
        kv, decay = (vector[f"in/{name}"].clone().requires_grad_() for name in ("kv", "decay"))
        start = torch.zeros_like(kv[:, :, 0]) if initial is None else vector[initial].clone()
        found, final = _recurrence(kv, decay, start.requires_grad_())
        vector.close(f"out/{states}", found, tolerance)
        if initial is not None:
            vector.close("out/final_state", final, tolerance)
        (found * vector["in/cotangent"]).sum().backward()
        gradients = {"kv": kv.grad, "decay": decay.grad, "initial_state": start.grad}
        for name, gradient in gradients.items():
            vector.close(f"grad/{prefix}{name}", gradient, max(tolerance, DOUBLE))


def _recurrence(kv_BHSKV: Tensor, decay_BHS: Tensor, state_BHKV: Tensor) -> tuple[Tensor, Tensor]:
    """The states before each chunk [B, H, S, K, V], and the last one."""
    batch, heads, _, keys, _ = kv_BHSKV.shape
    unit_BKHK = torch.eye(keys, dtype=kv_BHSKV.dtype)[:, None].expand(batch, keys, heads, keys) * keys**0.5
    states = []
    for kv_BHKV, decay_BH in zip(kv_BHSKV.unbind(2), decay_BHS.unbind(2), strict=True):
        states.append(state_BHKV)
        gates_BKH = decay_BH.log()[:, None].expand(batch, keys, heads)
        arguments = torch.zeros_like(unit_BKHK), unit_BKHK, kv_BHKV.transpose(1, 2), gates_BKH
        state_BHKV = chunk_gated_attention(*arguments, chunk_size=keys, initial_state=state_BHKV)[1]
    return torch.stack(states, 2), state_BHKV


def check_hybrid_attention(vector: GoldenVector) -> None:
    double = vector.config["dtype"] == "torch.float64"
    tolerance, gradient_tolerance = (DOUBLE, DOUBLE) if double else (3e-5, GRADIENTS)
    if "in/initial_state" in vector:
        _check_attention(vector, vector["in/initial_state"].clone(), "o", "", tolerance, gradient_tolerance)
    _check_attention(vector, None, "o_zero_init", "zero_init/", tolerance, gradient_tolerance)
    _check_stepwise(vector, tolerance)


def _check_attention(
    vector: GoldenVector, start: Tensor | None, output: str, prefix: str, tolerance: float, gradient_tolerance: float
) -> None:
    inputs = {name: vector[f"in/{name}"].clone().requires_grad_() for name in ("q", "k", "v", "log_gate")}
    if start is not None:
        inputs["initial_state"] = start.requires_grad_()
    o_BTHV, _ = _attention(inputs, start, vector.config["chunk_size"])
    vector.close(f"out/{output}", o_BTHV, tolerance)
    (o_BTHV * vector["in/cotangent"]).sum().backward()
    for name, leaf in inputs.items():
        vector.close(f"grad/{prefix}{name}", leaf.grad, gradient_tolerance)


def _check_stepwise(vector: GoldenVector, tolerance: float) -> None:
    inputs = {name: vector[f"in/{name}"] for name in ("q", "k", "v", "log_gate")}
    size, outputs, state = vector.config["chunk_size"], [], None
    if "in/initial_state" in vector:
        state = vector["in/initial_state"]
    for chunk in range(vector.config["chunks"]):
        part = {name: tensor[:, :, chunk * size : (chunk + 1) * size] for name, tensor in inputs.items()}
        o_BTHV, state = _attention(part, state, size)
        outputs.append(o_BTHV)
    vector.close("out/o_stepwise", torch.cat(outputs, 2), tolerance)
    vector.close("out/final_state", state, tolerance)


def _attention(inputs: dict[str, Tensor], state: Tensor | None, chunk_size: int) -> tuple[Tensor, Tensor]:
    """The kernel on tensors in the official layout, heads before tokens."""
    tokens_first = [inputs[name].transpose(1, 2) for name in ("q", "k", "v", "log_gate")]
    o_BTHV, state = chunk_gated_attention(*tokens_first, chunk_size=chunk_size, initial_state=state)
    return o_BTHV.transpose(1, 2), state


HANDLERS = {"state_scan": check_state_scan, "hybrid_attention": check_hybrid_attention}
