"""One scan as a pair of torch.library operators, `visionseq::<name>` and `visionseq::<name>_backward`.

An operator's folder brings a schema, the shapes of the outputs and the implementations `cpu.py` and `gpu.py` with the
functions `forward(*arguments)` and `backward(*cotangents, *outputs, *arguments)`. What torch.compile, torch.export,
activation checkpointing, FSDP and FlopCounterMode need to know is registered here, once for all operators. There is no
autocast rule: the operators take mixed dtypes, and the layers decide what runs in half precision.

An implementation sees contiguous tensors. Where nothing but autograd watches a call, it is run without torch's
dispatcher, which would take longer than a short scan does.
"""

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
from visionseq.kernels.autocast import autocast_off
from visionseq.kernels.segments import check_offsets
from visionseq.kernels.watching import is_unwatched

BACKWARD_FLOPS = 2.5  # relative to the forward: recomputation and two products for each of the forward's
_FILES = {"cpu": "cpu", "triton": "gpu"}


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

    def run_forward(self, args: Sequence[Any]) -> tuple[Tensor, ...]:
        """Call the `forward` of the backend that the last argument names."""
        return self._run("forward", args)

    def run_backward(self, args: Sequence[Any]) -> tuple[Tensor | None, ...]:
        """Call the `backward` of the backend that the last argument names; it returns None for an absent argument."""
        return self._run("backward", args)

    def _run(self, direction: str, args: Sequence[Any]) -> Any:
        *tensors_and_options, backend = args
        inputs = [x.contiguous() if isinstance(x, Tensor) else x for x in tensors_and_options]
        main = next(x for x in inputs if isinstance(x, Tensor))
        with autocast_off(main.device.type):
            return _implementation(self.name, backend, direction)(*inputs)

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        offsets = args[self.names.index("offsets")] if "offsets" in self.names else None
        if offsets is not None and offsets.device.type == "cpu":  # a wrong one would reach memory that is not ours
            check_offsets(offsets.tolist(), args[0].shape[0])
        return self.run_forward(args)

    def backward(self, *args: Any) -> tuple[Tensor, ...]:
        return tuple(_empty(None) if gradient is None else gradient for gradient in self.run_backward(args))

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

    def inputs_of_backward(self, ctx: Any, cotangents: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """The cotangents, the outputs and the arguments that the context has kept."""
        saved, arguments = ctx.saved_tensors, list(ctx.arguments)
        for i, tensor in zip(self.kept, saved, strict=False):
            arguments[i] = tensor
        return *cotangents, *saved[len(self.kept) :], *arguments

    def gradients(self, ctx: Any, results: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """One for each argument, from the results of the backward."""
        gradients: list[Tensor | None] = [None] * len(ctx.arguments)
        for i, result in zip(self.differentiable, results, strict=True):
            gradients[i] = result if ctx.needs_input_grad[i] else None
        return tuple(gradients)

    def _arguments_of_backward(self, args: Sequence[Any]) -> list[Any]:
        """The forward's arguments among those of the backward, with a stand-in of the same shape for each not kept."""
        results, arguments = args[len(self.outputs) : 2 * len(self.outputs)], args[2 * len(self.outputs) : -1]
        return [
            results[self.outputs.index(self.shaped_like[name])] if name in self.shaped_like else argument
            for name, argument in zip(self.names, arguments, strict=True)
        ]


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
    forward = _define(name, scan.forward, f"{arguments}, str backend", len(outputs))
    cotangents = ", ".join(f"Tensor? d_{output}" for output in outputs)
    results = ", ".join(f"Tensor out_{output}" for output in outputs)
    optional = arguments.replace("Tensor ", "Tensor? ")
    schema = f"{cotangents}, {results}, {optional}, str backend"
    backward = _define(f"{name}_backward", scan.backward, schema, len(scan.differentiable))

    def differentiate(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        return scan.gradients(ctx, backward(*scan.inputs_of_backward(ctx, cotangents)))

    def refuse(ctx: Any, *cotangents: Tensor) -> None:
        raise KernelError(f"{name} has no second derivative here; backend='reference' has")

    forward.register_fake(scan.fake_forward)
    forward.register_autograd(differentiate, setup_context=scan.setup_context)
    backward.register_fake(scan.fake_backward)
    backward.register_autograd(refuse, setup_context=lambda ctx, inputs, output: None)
    register_flop_formula(getattr(torch.ops.visionseq, name), get_raw=True)(scan.count_forward)
    register_flop_formula(getattr(torch.ops.visionseq, f"{name}_backward"), get_raw=True)(scan.count_backward)
    return _with_short_cut(scan, forward, backward)


def _with_short_cut(
    scan: ScanOperator, forward: Callable[..., Any], backward: Callable[..., Any]
) -> Callable[..., tuple[Tensor, ...]]:
    """The registered operators, and where nobody watches their implementations without the dispatcher."""

    def run(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        results = scan.run_forward(args)
        scan.setup_context(ctx, args, results)
        return results

    def differentiate(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = scan.inputs_of_backward(ctx, cotangents)
        unwatched = not torch.is_grad_enabled() and is_unwatched(inputs)
        return scan.gradients(ctx, scan.run_backward(inputs) if unwatched else backward(*inputs))

    methods = {"forward": staticmethod(run), "backward": staticmethod(differentiate)}
    function: type[torch.autograd.Function] = type(scan.name, (torch.autograd.Function,), methods)

    def call(*args: Any) -> tuple[Tensor, ...]:
        if not is_unwatched(args):
            return forward(*args)
        if torch.is_grad_enabled() and any(args[i] is not None and args[i].requires_grad for i in scan.tensors):
            return function.apply(*args)
        return scan.run_forward(args)

    return call


def _define(name: str, function: Callable[..., tuple[Tensor, ...]], arguments: str, outputs: int) -> Any:
    schema = f"({arguments}) -> ({', '.join(['Tensor'] * outputs)})"
    return custom_op(f"visionseq::{name}", function, mutates_args=(), schema=schema)


def _empty(model: Tensor | None) -> Tensor:
    """An empty contiguous tensor of the shape and dtype of the model; of no elements where that is absent."""
    return torch.empty(0) if model is None else torch.empty_like(model, memory_format=torch.contiguous_format)


@lru_cache
def _implementation(name: str, backend: str, direction: str) -> Callable[..., Any]:
    return getattr(import_module(f"visionseq.kernels.{name}.{_FILES[backend]}"), direction)
