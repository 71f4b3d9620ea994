"""Cases of ttt_linear: mini-batches of 4 with remainders, of one token, of the usual 16, and longer than a sequence."""

import torch
from operator_case import Fixed, OperatorCase, State, Timed

from visionseq.kernels.ttt_linear import ttt_linear, ttt_linear_step

ARGUMENTS = ("q", "k", "v", "eta_row", "eta_col", "norm_weight", "norm_bias")


class Steps:
    """Shows the weights alone, as the scan returns them, and remembers the state of the mini-batch they belong to."""

    def __init__(self, mini_batch_size: int):
        self.mini_batch_size, self.state = mini_batch_size, None

    def __call__(self, tokens, fixed, state):
        if self.state is None or state[0] is not self.state.W:
            self.state = state
        values = tokens | fixed
        arguments = [values[name] for name in ARGUMENTS]
        o, self.state = ttt_linear_step(*arguments, self.state, mini_batch_size=self.mini_batch_size)
        return o, (self.state.W, self.state.b)


def case(name: str, channels: int, mini_batch_size: int, lengths: tuple[int, ...], **options):
    heads = 2
    vectors, rate = (heads, channels), (heads,)
    return OperatorCase(
        name=f"ttt_linear-{name}",
        function=ttt_linear,
        arguments={
            "v": Timed(vectors),
            "q": Timed(vectors),
            "k": Timed(vectors),
            "eta_row": Timed(rate, torch.sigmoid),
            "eta_col": Timed(rate, lambda x: torch.sigmoid(x) / channels),
            "norm_weight": Fixed(vectors, lambda x: 1 + 0.3 * x),
            "norm_bias": Fixed(vectors, lambda x: 0.3 * x),
        },
        state=(State((heads, channels, channels), transform=lambda x: 0.3 * x), State(vectors)),
        options={"mini_batch_size": mini_batch_size},
        step=Steps(mini_batch_size),
        extreme={"k": lambda x: x * (x > 0), "eta_row": lambda x: (x > 0).float(), "eta_col": lambda x: 0.3 * (x > 0)},
        lengths=lengths,
        **options,
    )


CASES = [
    case("four", 5, 4, (0, 1, 2, 63, 64, 65, 130)),
    case(
        "one", 3, 1, (0, 1, 2, 33, 65), tolerance=3.0
    ),  # a norm over 3 channels: the float32 loop is off by 8e-5 itself
    case("sixteen", 16, 16, (0, 4, 16, 20, 64), multiple=4),
    case("remainder", 9, 16, (1, 17, 63, 65), packable=False),
    case("long", 6, 200, (1, 65), packable=False),
]

ON_A_GPU = [case("gpu-32", 32, 16, (1,)), case("gpu-long", 64, 200, (1,))]


def of_width(width: int) -> OperatorCase:
    return case(f"width-{width}", width, 16, (1,))


WIDTHS = (1, 16, 32, 33, 64)  # on Triton, from the narrowest to the widest
