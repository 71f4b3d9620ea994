"""How many gates, recurrent weights, biases and states each cell has."""

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
