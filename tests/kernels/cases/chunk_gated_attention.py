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

ON_A_GPU = [case("head-64", 16, 2, 64, 64), case("head-256", 16, 1, 256, 64)]
