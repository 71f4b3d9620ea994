"""What the contract has to know of an operator: how to make its arguments, and how to take one step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Timed:
    """An argument [B, T, *shape]; `transform` maps standard normal numbers to what the operator expects."""

    shape: Shape
    transform: Callable[[Tensor], Tensor] = lambda x: x


@dataclass(frozen=True)
class Fixed:
    """An argument of the given shape without time."""

    shape: Shape
    transform: Callable[[Tensor], Tensor] = lambda x: x


@dataclass(frozen=True)
class State:
    """A state [N, *shape], or, with `lead`, [*lead, N, *shape]."""

    shape: Shape
    lead: Shape = ()
    transform: Callable[[Tensor], Tensor] = lambda x: x


@dataclass(frozen=True)
class OperatorCase:
    """One operator with one choice of shapes and options.

    Args:
        name: shown by pytest; begins with the operator's.
        function: the public function; returns its outputs [B, T, ...] and then the final state.
        arguments: by name, the main input first.
        state: the initial and final state, a tuple of them for a state of several tensors, None for no state.
        options: keyword arguments held fixed.
        step: `step(tokens, fixed, state) -> (outputs, state)` for one token, all without the time axis.
        extreme: transforms by argument name that make the hardest legal values (decays of e^-80 beside 1, ...).
        outputs: how many tensors come before the final state.
        lengths: T of the comparison with the reference.
        reversible, packable: whether the function has `reverse` and `cu_seqlens`.
        multiple: T must be a multiple of this.
        tolerance: scales the allowed errors 2e-5 (outputs) and 1e-4 (gradients).
        exact_outputs: indices of outputs that must be equal bit for bit (spikes).
    """

    name: str
    function: Callable[..., tuple[Any, ...]]
    arguments: Mapping[str, Timed | Fixed]
    state: State | tuple[State, ...] | None
    options: Mapping[str, Any] = field(default_factory=dict)
    step: Callable[..., tuple[Any, Any]] | None = None
    extreme: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    outputs: int = 1
    lengths: tuple[int, ...] = (0, 1, 2, 63, 64, 65)
    reversible: bool = True
    packable: bool = True
    multiple: int = 1
    tolerance: float = 1.0
    exact_outputs: tuple[int, ...] = ()

    @property
    def timed(self) -> list[str]:
        return [name for name, kind in self.arguments.items() if isinstance(kind, Timed)]

    @property
    def main(self) -> str:
        return next(iter(self.arguments))

    def make(
        self,
        length: int,
        batch: int = 2,
        segments: int | None = None,
        state: bool = True,
        seed: int = 0,
        extreme: bool = False,
    ) -> dict[str, Any]:
        """Float64 arguments whose values are float32 numbers, with `initial_state` for each sequence or segment."""
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: Shape, transform: Callable[[Tensor], Tensor]) -> Tensor:
            return transform(torch.randn(shape, generator=generator)).float().double()

        values: dict[str, Any] = {}
        for name, kind in self.arguments.items():
            shape = (batch, length, *kind.shape) if isinstance(kind, Timed) else kind.shape
            values[name] = draw(shape, self.extreme.get(name, kind.transform) if extreme else kind.transform)
        if state and self.state is not None:
            count = batch if segments is None else segments
            values["initial_state"] = tree_map(
                lambda s: draw((*s.lead, count, *s.shape), s.transform), self.state, is_leaf=is_state
            )
        return values

    def call(self, values: Mapping[str, Any], **options: Any) -> tuple[Any, ...]:
        return self.function(**values, **{**self.options, **options})

    def state_axes(self) -> list[int]:
        """The axis that counts sequences, of each tensor of the state."""
        return [len(s.lead) for s in tree_leaves(self.state, is_leaf=is_state)]


def is_state(value: Any) -> bool:
    return isinstance(value, State)


def log_decay(x: Tensor) -> Tensor:
    """Normal numbers -> log decays <= 0 of a moderate size."""
    return torch.nn.functional.logsigmoid(x + 1)


def extreme_log_decay(x: Tensor) -> Tensor:
    """Log decays of -80, -1e-4 and 0 beside each other."""
    return torch.where(x > 0.5, -80.0, torch.where(x > -0.5, -1e-4, 0.0))


def positive(x: Tensor) -> Tensor:
    return torch.nn.functional.softplus(x)


def unit(x: Tensor) -> Tensor:
    """Vectors of length one along the last axis."""
    return torch.nn.functional.normalize(x, dim=-1)
