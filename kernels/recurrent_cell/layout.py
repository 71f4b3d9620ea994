"""How many gates, recurrent weights, biases and states each cell has, and what else the backends share."""

from typing import NamedTuple


class Layout(NamedTuple):
    """Sizes of the axes of x, R, b and the states, and of what the backward keeps of the gates."""

    inputs: int
    recurrent: int
    biases: int
    states: int
    kept: int


LAYOUTS = {
    "elman": Layout(inputs=1, recurrent=1, biases=1, states=1, kept=0),
    "lstm": Layout(inputs=4, recurrent=4, biases=4, states=2, kept=4),
    "gru": Layout(inputs=3, recurrent=3, biases=4, states=1, kept=4),
    "slstm": Layout(inputs=4, recurrent=4, biases=4, states=4, kept=4),
}

NUMBERS = {cell: number for number, cell in enumerate(LAYOUTS)}  # elman 0, lstm 1, gru 2, slstm 3
LARGEST_EXPONENT = 80.0  # of slstm's F where n = 0 and no F is meant: e^80 is finite in float32
