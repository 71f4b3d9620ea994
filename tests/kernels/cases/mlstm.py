"""Cases of mlstm: square and odd heads, one head, chunks of every length."""

import torch
from operator_case import OperatorCase, State, Timed

from visionseq.kernels.mlstm import mlstm, mlstm_step


def step(tokens, fixed, state):
    return mlstm_step(**tokens, state=state)


def extreme_gate(x):
    """Gates of -80, 0.1 and 80 beside each other."""
    return torch.where(x > 0.5, 80.0, torch.where(x > -0.5, 0.1, -80.0))


def case(name: str, heads: int, keys: int, values: int, **options) -> OperatorCase:
    gates = {"i": Timed((heads,)), "f": Timed((heads,), lambda x: 2 * x + 1)}
    vectors = {"q": Timed((heads, keys)), "k": Timed((heads, keys)), "v": Timed((heads, values))}
    return OperatorCase(
        name=f"mlstm-{name}",
        function=mlstm,
        arguments=vectors | gates,
        state=(State((heads, keys, values)), State((heads, keys)), State((heads,))),
        options=options,
        step=None if options else step,
        extreme={"i": extreme_gate, "f": extreme_gate},
        lengths=(0, 1, 2, 63, 64, 65, 257),
    )


CASES = [
    case("square", 2, 8, 8),
    case("odd", 3, 5, 7),
    case("one-head", 1, 33, 16),
    case("large-eps", 2, 4, 3, eps=1e-2),
]


def triton_kernels():
    """(kernel, argument types, constexpr values) of what is compiled without a GPU."""
    from visionseq.kernels.mlstm import gpu, reference

    tokens = dict.fromkeys(("q", "k", "v"), "*bf16") | {"i": "*fp32", "f": "*fp32", "offsets": "*i64"}
    sizes = dict.fromkeys(("heads", "keys", "values"), "i32") | {"scaling": "fp32", "eps": "fp32"}
    shape = {"REVERSE": False, "MAX_FLOOR": reference.MAX_FLOOR, "CHUNK": gpu.CHUNK, "BK": 64, "BV": gpu.TILE // 64}
    initial = dict.fromkeys(("initial_c", "initial_n", "initial_m"), "*fp32")
    states = {"o": "*bf16"} | dict.fromkeys(("m_rows", "state_c", "state_n", "state_m"), "*fp32")
    for keep in (False, True):
        yield gpu._forward, tokens | initial | states | sizes, shape | {"HAS_INITIAL": True, "KEEP": keep}
    pointers = {
        "m_rows",
        "kept_c",
        "kept_n",
        "kept_m",
        "chunk_c",
        "chunk_n",
        "do_o",
        "d_final_c",
        "d_final_n",
        "d_final_m",
    }
    pointers |= {"d_q", "d_k", "d_v", "d_i", "d_f", "d_c", "d_n", "d_m"}
    types = tokens | dict.fromkeys(pointers, "*fp32") | {"d_o": "*bf16"} | sizes
    yield gpu._backward, types | {"rows": "i32", "segments": "i32"}, shape
