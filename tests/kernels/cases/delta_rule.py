"""Cases of delta_rule and delta_net: no decay, one for a head, one for each key channel, more values than keys."""

import torch
from operator_case import OperatorCase, State, Timed, extreme_log_decay, log_decay, unit

from visionseq.kernels.delta_rule import delta_net, delta_net_step, delta_rule, delta_rule_step

LENGTHS = (0, 1, 2, 63, 64, 65, 257)


def general_step(tokens, fixed, state):
    return delta_rule_step(*(tokens[name] for name in "qkvab"), tokens.get("g"), state)


def net_step(tokens, fixed, state):
    return delta_net_step(*(tokens[name] for name in ("q", "k", "v", "beta")), tokens.get("g"), state)


def erased(x: torch.Tensor) -> torch.Tensor:
    """Directions of length 1/2: what is read along one of length one is partly erased along them."""
    return -0.5 * unit(x)


def resetting(x: torch.Tensor) -> torch.Tensor:
    """Extreme log decays, and minus infinity, which forgets all."""
    return torch.where(x > 1.5, -torch.inf, extreme_log_decay(x))


def case(name: str, keys: int, values: int, gate: tuple[int, ...] | None, net: bool = False, **options):
    heads = 2
    vectors = (heads, keys)
    arguments = {"v": Timed((heads, values)), "q": Timed(vectors), "k": Timed(vectors, unit)}
    if net:
        arguments["beta"] = Timed((heads,), torch.sigmoid)
    else:
        arguments |= {"a": Timed(vectors, unit), "b": Timed(vectors, erased)}
    if gate is not None:
        arguments["g"] = Timed((heads, *gate), log_decay)
    return OperatorCase(
        name=f"delta_rule-{name}",
        function=delta_net if net else delta_rule,
        arguments=arguments,
        state=State((heads, keys, values)),
        options=options,
        step=None if options else net_step if net else general_step,
        extreme={} if gate is None else {"g": resetting},
        lengths=LENGTHS,
    )


CASES = [
    case("channel", 5, 3, (5,)),
    case("head", 4, 6, ()),
    case("plain", 3, 5, None),
    case("wide", 2, 67, (2,), scale=1.0),
    case("net", 6, 4, None, net=True),
    case("net-head", 5, 7, (), net=True),
    case("net-channel", 4, 3, (4,), net=True, scale=0.3),
]


def triton_kernels():
    """(kernel, argument types, constexpr values) of what is compiled without a GPU."""
    from visionseq.kernels.delta_rule import gpu

    inputs = {name: "*bf16" for name in ("v", "q", "k", "a", "b")} | {"g": "*fp32", "offsets": "*i64"}
    sizes = {"scale": "fp32", "keys": "i32", "values": "i32"}
    states = {"initial": "*fp32", "o": "*bf16", "final": "*fp32", "read": "*fp32", "kept": "*fp32"}
    gradients = {"d_o": "*bf16", "d_v": "*bf16", "rows": "i32"}
    gradients |= {name: "*fp32" for name in ("d_final", "history", "d_q", "d_k", "d_a", "d_b", "d_g", "d_initial")}
    channel, head, none = gpu.BY_CHANNEL, gpu.BY_HEAD, gpu.NO_DECAY
    for gate, block_k in ((channel, 16), (channel, 64), (channel, 256), (head, 64), (none, 64)):
        flags = {"GATE": gate, "REVERSE": False, "CHECKPOINT": gpu.CHECKPOINT}
        flags |= {"BLOCK_K": block_k, "BLOCK_V": gpu.STATE // block_k}
        yield gpu._forward, inputs | sizes | states, flags | {"HAS_INITIAL": True}
        kept = {"read": "*fp32", "kept": "*fp32"}
        yield gpu._backward, inputs | sizes | kept | gradients, flags | {"HAS_D_FINAL": True}
