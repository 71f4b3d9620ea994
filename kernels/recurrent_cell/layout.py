"""How many gates, recurrent weights, biases and states each cell has, and what else the backends share."""

from typing import NamedTuple


class Layout(NamedTuple):
    """Sizes of the axes of x, R, b and the states, and how many gates the backward needs."""

    inputs: int
    recurrent: int
    biases: int
    states: int
    gates: int

    def returned(self, outputs_only: bool) -> int:
        """How many states of each token are a result: y, or all."""
        return 1 if outputs_only else self.states

    def kept(self, outputs_only: bool, keep: bool) -> int:
        """What else of each token is kept for the backward: the gates, then the states that are no result."""
        return self.gates + self.states - self.returned(outputs_only) if keep else 0


LAYOUTS = {
    "elman": Layout(inputs=1, recurrent=1, biases=1, states=1, gates=0),
    "lstm": Layout(inputs=4, recurrent=4, biases=4, states=2, gates=4),
    "gru": Layout(inputs=3, recurrent=3, biases=4, states=1, gates=4),
    "slstm": Layout(inputs=4, recurrent=4, biases=4, states=4, gates=4),
}

NUMBERS = {cell: number for number, cell in enumerate(LAYOUTS)}  # elman 0, lstm 1, gru 2, slstm 3
LARGEST_EXPONENT = 80.0  # of slstm's F where n = 0 and no F is meant: e^80 is finite in float32
