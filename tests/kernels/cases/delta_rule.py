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

ON_A_GPU = [
    case("gpu-channel", 64, 64, (64,)),
    case("gpu-head", 64, 64, ()),
    case("gpu-plain", 64, 64, None),
]


def of_width(width: int) -> OperatorCase:
    return case(f"width-{width}", width, width, (width,))


WIDTHS = (1, 16, 32, 100, 128, 256, 1024)  # on Triton, from the narrowest to the widest
