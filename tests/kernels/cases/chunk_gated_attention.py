"""Cases of chunk_gated_attention: chunks of several sizes, odd head sizes, one head."""

from operator_case import OperatorCase, State, Timed, extreme_log_decay, log_decay

from visionseq.kernels.chunk_gated_attention import chunk_gated_attention


def extreme(x):
    return extreme_log_decay(x) * 20


def case(name: str, chunk: int, heads: int, keys: int, values: int) -> OperatorCase:
    return OperatorCase(
        name=f"chunk_gated_attention-{name}",
        function=chunk_gated_attention,
        arguments={
            "q": Timed((heads, keys)),
            "k": Timed((heads, keys)),
            "v": Timed((heads, values)),
            "g": Timed((heads,), log_decay),
        },
        state=State((heads, keys, values)),
        options={"chunk_size": chunk},
        extreme={"g": extreme},
        lengths=(0, chunk, 2 * chunk, 9 * chunk),
        multiple=chunk,
    )


CASES = [
    case("chunks-of-4", 4, 2, 4, 4),
    case("odd", 5, 3, 7, 3),
    case("one-token", 1, 1, 8, 9),
    case("image", 16, 2, 24, 24),
]


def triton_kernels():
    """(kernel, argument types, constexpr values) of what is compiled without a GPU: the scan over the memories."""
    from visionseq.kernels.linear_scan import gpu

    flags = {"HAS_INITIAL": True, "REVERSE": False, "EXCLUSIVE": True, "BLOCK": gpu.BLOCK}
    sizes = {"offsets": "*i64", "gates": "i32", "shared": "i32"}
    pointers = dict.fromkeys(("a", "b", "initial", "h", "final"), "*fp32")
    yield gpu._forward, pointers | sizes, flags
    pointers = dict.fromkeys(("a", "h", "initial", "d_h", "d_final", "d_a", "d_b", "d_initial"), "*fp32")
    yield gpu._backward, pointers | sizes, flags | {"HAS_D_FINAL": True}
