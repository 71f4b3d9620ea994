"""Properties of every operator on every backend, for pytest and for the process that runs Triton's interpreter."""

from collections.abc import Callable, Iterator
from itertools import chain, combinations
from typing import Any

import torch
from comparing import assert_close, named_leaves, named_results
from operator_case import OperatorCase
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

LAYOUTS = ("contiguous", "permuted", "sliced", "expanded", "overlapping")


def laid_out(x: Tensor, layout: str, axis: int = 0) -> Tensor:
    """A tensor of the same shape in another layout; expanded and overlapping ones hold part of the values."""
    if layout == "contiguous" or x.dim() == 0 or x.numel() == 0:
        return x.clone(memory_format=torch.contiguous_format)
    if layout == "permuted":
        backwards = list(range(x.dim()))[::-1]
        return x.permute(backwards).clone(memory_format=torch.contiguous_format).permute(backwards)
    if layout == "sliced":
        wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "expanded":
        return x.narrow(axis % x.dim(), 0, 1).expand_as(x)
    return x.flatten().as_strided(x.shape, [1] * x.dim())


def results_and_gradients(
    case: OperatorCase, values: dict[str, Any], cotangents: list[Tensor | None], **options: Any
) -> dict[str, Tensor]:
    """Results by name, and the gradients of all arguments for the given cotangents; None carries no loss."""
    leaves = tree_map(lambda x: x.detach().requires_grad_(), values)
    results = named_results(case.call(leaves, **options))
    pairs = [(x, d) for x, d in zip(results.values(), cotangents, strict=True) if d is not None and x.requires_grad]
    named = {f"gradient of {name}": leaf for name, leaf in named_leaves(leaves).items()}
    outputs, weights = [x for x, _ in pairs], [d.to(x.dtype) for x, d in pairs]
    gradients = torch.autograd.grad(outputs, list(named.values()), weights, allow_unused=True)
    for (name, leaf), gradient in zip(named.items(), gradients, strict=True):
        results[name] = torch.zeros_like(leaf) if gradient is None else gradient
    return {name: tensor.detach() for name, tensor in results.items()}


def check_layouts(case: OperatorCase, backend: str, length: int, choose: Callable[[], tuple[str, int]]) -> None:
    """Arguments, states and cotangents in any layout give what the same values give one after the other in memory."""
    # Repeated values can make a call ill-conditioned, so both sides are of one backend, in its best dtype.
    dtype = torch.float64 if backend == "reference" else torch.float32
    values = tree_map(lambda x: laid_out(x.to(dtype), *choose()), case.make(length * case.multiple))
    cotangents = [laid_out(d.to(dtype), *choose()) for d in random_cotangents(case, values)]
    actual = results_and_gradients(case, values, cotangents, backend=backend)

    plain = tree_map(lambda x: x.clone(memory_format=torch.contiguous_format), values)
    weights = [d.clone(memory_format=torch.contiguous_format) for d in cotangents]
    assert_close(actual, results_and_gradients(case, plain, weights, backend=backend), case)


def check_subsets_of_cotangents(case: OperatorCase, backend: str, length: int) -> None:
    """Every subset of the results can carry the loss."""
    values = case.make(length * case.multiple)
    cotangents = random_cotangents(case, values)
    single = tree_map(torch.Tensor.float, values)
    for chosen in subsets(len(cotangents)):
        weights = [d if i in chosen else None for i, d in enumerate(cotangents)]
        expected = results_and_gradients(case, values, weights, backend="reference")
        assert_close(results_and_gradients(case, single, weights, backend=backend), expected, case)


def random_cotangents(case: OperatorCase, values: dict[str, Any]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        results = case.call(tree_map(torch.Tensor.double, values), backend="reference")
    shapes = [x.shape for x in tree_leaves(results) if x is not None]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def subsets(count: int) -> Iterator[tuple[int, ...]]:
    """All but the empty one."""
    return chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1))
