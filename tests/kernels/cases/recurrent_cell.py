"""Cases of recurrent_cell: every cell, with and without a floor of the normaliser, and the cut recurrent gradient."""

from operator_case import Fixed, OperatorCase, State, Timed, positive

from visionseq.kernels import recurrent_cell, recurrent_cell_step

GATES = {"elman": (1, 1, 1, 1), "lstm": (4, 4, 4, 2), "gru": (3, 3, 4, 1), "slstm": (4, 4, 4, 4)}
HEADS = 2


def case(name: str, cell: str, size: int, **options) -> OperatorCase:
    inputs, recurrent, biases, states = GATES[cell]

    def step(tokens, fixed, state):
        return recurrent_cell_step(tokens["x"], fixed["R"], fixed["b"], state, cell=cell, **options)

    return OperatorCase(
        name=f"recurrent_cell-{name}",
        function=recurrent_cell,
        arguments={
            "x": Timed((inputs, HEADS, size)),
            "R": Fixed((recurrent, HEADS, size, size), lambda x: x / size**0.5),
            "b": Fixed((biases, HEADS, size)),
        },
        state=State((states, HEADS, size), transform=positive),
        options={"cell": cell, **options},
        step=step if "gradient_recurrent_cut" not in options else None,
        tolerance=2.0,
    )


CASES = [
    case("lstm", "lstm", 3),
    case("gru", "gru", 5),
    case("elman", "elman", 3),
    case("slstm", "slstm", 4),
    case("slstm-unfloored", "slstm", 3, normalizer_floor=None),
    case("outputs", "lstm", 5, outputs_only=True),
]

ON_A_GPU = [case(f"gpu-{cell}-{size}", cell, size) for size in (64, 256) for cell in GATES]
