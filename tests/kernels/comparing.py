"""Running an operator with all its gradients, and comparing two such runs."""

from collections.abc import Mapping
from typing import Any

import torch
from operator_case import OperatorCase
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

OUTPUT, GRADIENT = 2e-5, 1e-4  # of the largest value, float32


def run(
    case: OperatorCase, values: Mapping[str, Any], dtype: torch.dtype = torch.float32, **options: Any
) -> dict[str, Tensor]:
    """Outputs, states and the gradients of a fixed random functional of all of them, by name."""
    leaf_values = tree_map(lambda x: x.detach().to(dtype).requires_grad_(), dict(values))
    named = named_results(case.call(leaf_values, **options))
    leaves = {f"gradient of {name}": leaf for name, leaf in named_leaves(leaf_values).items()}
    gradients = torch.autograd.grad(_functional(named), list(leaves.values()), allow_unused=True)
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        named[name] = torch.zeros_like(leaf) if gradient is None else gradient
    return {name: tensor.detach() for name, tensor in named.items()}


def named_results(results: tuple[Any, ...]) -> dict[str, Tensor]:
    """Outputs and the parts of the final state, by name; absent parts are left out."""
    *outputs, state = results
    named = {f"output {i}": output for i, output in enumerate(outputs) if output is not None}
    return named | {f"final state {i}": part for i, part in enumerate(tree_leaves(state)) if part is not None}


def assert_close(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], case: OperatorCase, scale: float = 1.0
) -> None:
    """Errors relative to the largest value of each tensor, as the golden vectors allow them."""
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        reference = expected[name]
        assert value.shape == reference.shape, name
        if not value.numel():
            continue
        if name in {f"output {i}" for i in case.exact_outputs}:
            assert torch.equal(value.double(), reference.double()), name
            continue
        finite = reference.isfinite()  # the stabiliser of an empty state is -inf
        assert torch.equal(value[~finite].double(), reference[~finite].double()), name
        if not finite.any():
            continue
        value, reference = value[finite], reference[finite]
        relative = (GRADIENT if name.startswith("gradient") else OUTPUT) * case.tolerance * scale
        bound = relative * max(reference.abs().max().item(), 1e-3)
        error = (value.double() - reference.double()).abs().max().item()
        assert error <= bound, f"{case.name}: {name} differs by {error:.2e}, allowed {bound:.2e}"


def assert_equal(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """The same bits."""
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert torch.equal(value, expected[name]), name


def _functional(named: Mapping[str, Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    total = torch.zeros((), dtype=torch.float64)
    for tensor in named.values():
        weight = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if tensor.requires_grad:  # not for T = 0 without a state
            total = total + (tensor.double() * weight).sum()
    return total if total.requires_grad else total.requires_grad_()


def named_leaves(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among the arguments, by name."""
    flat: dict[str, Tensor] = {}
    for name, value in values.items():
        parts = tree_leaves(value)
        flat |= {name if len(parts) == 1 else f"{name} {i}": part for i, part in enumerate(parts)}
    return flat
