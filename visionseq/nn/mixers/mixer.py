"""What every token mixer does: one pass over a sequence, with a state in and out, or one token at a time.

    y_BTD, state = mixer(x_BTD, state=None, cu_seqlens=None, reverse=False)
    y_BD, state = mixer.step(x_BD, state=None)

Shapes: B sequences, T tokens, D channels, N states (B, or the number of packed sequences).
"""

from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError, KernelArgumentError
from visionseq.kernels.segments import check_cu_seqlens, count_segments

Direction = Literal["past", "chunk", "both"]
State = TypeVar("State")


class Mixer(nn.Module):
    """Base of the token mixers: the protocol, and what is checked once for all of them.

    A state is a tensor or a tuple of tensors with the axis N first; None is the state before the first token. What is
    summed over time in it is float32 whatever the input (float64 where that is). Carrying the state from one piece of
    a sequence to the next gives what one pass over the whole would give. A state owns its memory: it keeps no input
    alive. `torch.save` writes it and `torch.load(weights_only=True)` reads it once the mixer's class has been imported.

    Attributes:
        direction: which tokens an output depends on: itself and its "past" (the future where `reverse`), its past and
            its whole "chunk", or "both" sides. Only "past" has a `step`; "both" has no state.
        state_grows: whether the state gets longer with every token.
    """

    direction: Direction = "past"
    state_grows: bool = False

    def forward(
        self, x_BTD: Tensor, state: Any = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Any]:
        """Mix the tokens of each sequence.

        Args:
            x_BTD: tokens; float32, float64, bfloat16 or float16.
            state: what an earlier call returned, for the tokens that follow.
            cu_seqlens: offsets [N+1] of sequences packed in a batch of 1; none sees another's tokens.
            reverse: run from the last token to the first: the same as flipping every sequence, mixing, flipping back.

        Raises:
            ConfigError: a state for a mixer that reads both directions.
            KernelArgumentError: wrong `cu_seqlens`, or a state of another number of sequences.
        """
        raise NotImplementedError

    def step(self, x_BD: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Mix one token of each sequence.

        Raises:
            ConfigError: outputs depend on tokens still to come.
            KernelArgumentError: a state of another number of sequences.
        """
        raise NotImplementedError

    def check(self, x_BTD: Tensor, state: Any, cu_seqlens: Tensor | None) -> None:
        """Raise where the arguments of `forward` are wrong."""
        check_cu_seqlens(x_BTD, cu_seqlens)
        if self.direction == "both" and state is not None:
            raise ConfigError(f"{self._name} reads both directions, so it cannot go on from a state: pass state=None")
        _check_sequences(state, count_segments(x_BTD.shape[0], cu_seqlens))

    def check_step(self, x_BD: Tensor, state: Any) -> None:
        """Raise where the mixer cannot take single tokens, or the state belongs to another number of sequences."""
        if self.direction != "past":
            seen = "both directions" if self.direction == "both" else "the whole chunk around a token"
            raise ConfigError(f"{self._name} reads {seen}, so it cannot take single tokens: call it on sequences")
        _check_sequences(state, x_BD.shape[0])

    @property
    def _name(self) -> str:
        return type(self).__name__


def state_type(cls: type[State]) -> type[State]:
    """Let `torch.load(weights_only=True)` read states of this class."""
    torch.serialization.add_safe_globals([cls])
    return cls


def _check_sequences(state: Any, count: int) -> None:
    """Raise `KernelArgumentError` unless every tensor of a state holds `count` sequences."""
    named = zip(state._fields, state, strict=True) if hasattr(state, "_fields") else [("", state)]
    for name, part in named:
        if isinstance(part, Tensor) and part.shape[0] != count:
            label = f"state.{name}" if name else "state"
            raise KernelArgumentError(f"{label}: expected {count} sequences, got {part.shape[0]}")
