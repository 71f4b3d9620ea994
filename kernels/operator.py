"""One scan as a pair of torch.library operators, `visionseq::<name>` and `visionseq::<name>_backward`.

An operator's folder brings a schema, the shapes of the outputs and the implementations `cpu.py` and `gpu.py` with the
functions `forward(*arguments)` and `backward(*cotangents, *outputs, *arguments)`. What torch.compile, torch.export,
activation checkpointing, FSDP and FlopCounterMode want to know is registered here, once for all operators. There is no
autocast rule: the operators take mixed dtypes, and the layers decide what runs in half precision.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op
from torch.utils.flop_counter import register_flop_formula

from visionseq.errors import KernelError
from visionseq.kernels.backends import choose_backend, implemented_backends
from visionseq.kernels.segments import check_offsets

log = logging.getLogger("visionseq.kernels")

BACKWARD_FLOPS = 2.5  # relative to the forward: recomputation and two products for each of the forward's
_FILES = {"cpu": "cpu", "triton": "gpu"}


def serving_backend(name: str, main: Tensor, backend: str) -> str:
    """The backend that serves an operator for its main input; the log says once which one it is."""
    return _serving_backend(name, main.device.type, main.dtype == torch.float64, backend)


@dataclass
class ScanOperator:
    """What torch.library has to know of a scan.

    Args:
        name: of the operator and of its folder.
        arguments: schema, "Tensor a, Tensor? initial_state, Tensor offsets, bool reverse". The first is the main input,
            [M, ...] over the rows of all segments; `offsets` [N+1] has no gradient.
        outputs: names of the results. A cotangent comes as None where nothing depends on the result.
        fake: empty results for the arguments.
        flops: of the forward, for the arguments.
        shaped_like: arguments that the backward does without (there they are None), each with a result of its shape.
    """

    name: str
    arguments: str
    outputs: tuple[str, ...]
    fake: Callable[..., tuple[Tensor, ...]]
    flops: Callable[..., int]
    shaped_like: Mapping[str, str]

    @cached_property
    def names(self) -> list[str]:
        return [argument.split()[-1] for argument in self.arguments.split(", ")]

    @cached_property
    def tensors(self) -> list[int]:
        """Positions of the tensors among the arguments."""
        return [i for i, argument in enumerate(self.arguments.split(", ")) if argument.startswith("Tensor")]

    @cached_property
    def differentiable(self) -> list[int]:
        return [i for i in self.tensors if self.names[i] != "offsets"]

    @cached_property
    def kept(self) -> list[int]:
        """Positions of the tensors that the backward needs."""
        return [i for i in self.tensors if self.names[i] not in self.shaped_like]

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        offsets = args[self.names.index("offsets")] if "offsets" in self.names else None
        if offsets is not None and offsets.device.type == "cpu":  # a wrong one would reach memory that is not ours
            check_offsets(offsets.tolist(), args[0].shape[0])
        return self._implementation(args[-1], "forward")(*args[:-1])

    def backward(self, *args: Any) -> tuple[Tensor, ...]:
        gradients = self._implementation(args[-1], "backward")(*args[:-1])
        return tuple(_empty(None) if gradient is None else gradient for gradient in gradients)

    def fake_forward(self, *args: Any) -> tuple[Tensor, ...]:
        return self.fake(*args[:-1])

    def fake_backward(self, *args: Any) -> tuple[Tensor, ...]:
        arguments = self._arguments_of_backward(args)
        return tuple(_empty(arguments[i]) for i in self.differentiable)

    def count_forward(self, *args: Any, out_val: Any = None) -> int:
        return self.flops(*args[:-1])

    def count_backward(self, *args: Any, out_val: Any = None) -> int:
        return int(BACKWARD_FLOPS * self.flops(*self._arguments_of_backward(args)))

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*(inputs[i] for i in self.kept), *output)
        ctx.arguments = [None if i in self.tensors else value for i, value in enumerate(inputs)]
        ctx.set_materialize_grads(False)

    def _arguments_of_backward(self, args: Sequence[Any]) -> list[Any]:
        """The forward's arguments among those of the backward, with a stand-in of the same shape for each not kept."""
        results, arguments = args[len(self.outputs) : 2 * len(self.outputs)], args[2 * len(self.outputs) : -1]
        return [
            results[self.outputs.index(self.shaped_like[name])] if name in self.shaped_like else argument
            for name, argument in zip(self.names, arguments, strict=True)
        ]

    def _implementation(self, backend: str, direction: str) -> Callable[..., Any]:
        return getattr(import_module(f"visionseq.kernels.{self.name}.{_FILES[backend]}"), direction)


def register(
    name: str,
    arguments: str,
    outputs: tuple[str, ...],
    fake: Callable[..., tuple[Tensor, ...]],
    flops: Callable[..., int],
    shaped_like: Mapping[str, str] | None = None,
) -> Callable[..., tuple[Tensor, ...]]:
    """Register a `ScanOperator` and its backward; the result is called with `arguments` and the name of a backend."""
    scan = ScanOperator(name, arguments, outputs, fake, flops, shaped_like or {})
    run = _define(name, scan.forward, f"{arguments}, str backend", len(outputs))
    cotangents = ", ".join(f"Tensor? d_{output}" for output in outputs)
    results = ", ".join(f"Tensor out_{output}" for output in outputs)
    optional = arguments.replace("Tensor ", "Tensor? ")
    schema = f"{cotangents}, {results}, {optional}, str backend"
    run_backward = _define(f"{name}_backward", scan.backward, schema, len(scan.differentiable))

    def differentiate(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, given = ctx.saved_tensors, list(ctx.arguments)
        for i, tensor in zip(scan.kept, saved, strict=False):
            given[i] = tensor
        gradients = run_backward(*cotangents, *saved[len(scan.kept) :], *given)
        result: list[Tensor | None] = [None] * len(given)
        for i, gradient in zip(scan.differentiable, gradients, strict=True):
            result[i] = gradient if ctx.needs_input_grad[i] else None
        return tuple(result)

    def refuse(ctx: Any, *cotangents: Tensor) -> None:
        raise KernelError(f"{name} has no second derivative here; backend='reference' has")

    run.register_fake(scan.fake_forward)
    run.register_autograd(differentiate, setup_context=scan.setup_context)
    run_backward.register_fake(scan.fake_backward)
    run_backward.register_autograd(refuse, setup_context=lambda ctx, inputs, output: None)
    register_flop_formula(getattr(torch.ops.visionseq, name), get_raw=True)(scan.count_forward)
    register_flop_formula(getattr(torch.ops.visionseq, f"{name}_backward"), get_raw=True)(scan.count_backward)
    return run


def _define(name: str, function: Callable[..., tuple[Tensor, ...]], arguments: str, outputs: int) -> Any:
    schema = f"({arguments}) -> ({', '.join(['Tensor'] * outputs)})"
    return custom_op(f"visionseq::{name}", function, mutates_args=(), schema=schema)


def _empty(model: Tensor | None) -> Tensor:
    """An empty contiguous tensor of the shape and dtype of the model; of no elements where that is absent."""
    return torch.empty(0) if model is None else torch.empty_like(model, memory_format=torch.contiguous_format)


@torch.compiler.assume_constant_result
def _serving_backend(name: str, device: str, double: bool, backend: str) -> str:
    chosen = choose_backend(device, backend, implemented_backends()[name], double)
    _say_once(name, device, chosen)
    return chosen


@lru_cache
def _say_once(name: str, device: str, chosen: str) -> None:
    log.info("%s on %s: backend %s", name, device, chosen)
