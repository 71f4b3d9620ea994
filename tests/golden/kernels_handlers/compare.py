"""One operator against a golden file: the reference in float64, the CPU backend in float32, values and gradients.

A file holds `in/<argument>`, `in/d_<output>`, `out/<output>` and `grad/<argument>`; the gradients are those of the sum
over the outputs of <output, d_output>. An optional argument that the file does not hold is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from golden_vector import GoldenVector
from torch import Tensor
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

OUTPUT_TOLERANCE = 2e-5  # float32, of the largest reference value
GRADIENT_TOLERANCE = 1e-4
ROUNDED = torch.finfo(torch.float32).eps / 2  # relative, of a float64 reference that went through float32


def check_operator(
    vector: GoldenVector,
    function: Callable[..., Any],
    arguments: Mapping[str, str],
    outputs: Sequence[str],
    *,
    gradient_share: float | None = None,
    **options: Any,
) -> None:
    """Assert that the operator gives the file's values and gradients with both backends.

    Args:
        vector: the file.
        function: called with the tensors of the file, the options, `cu_seqlens` where the file has it, and `backend`.
        arguments: names of the function's tensors, and the names that they have in the file.
        outputs: the file's names of the results, in the function's order; results of nested tuples count one by one.
        gradient_share: tolerance of float64 gradients, as a share of the largest |g|; 1e-9 of each value without it.
        options: further keyword arguments of the function.
    """
    present = {name: key for name, key in arguments.items() if f"in/{key}" in vector}
    if "in/cu_seqlens" in vector:
        options["cu_seqlens"] = vector["in/cu_seqlens"]
    for backend, dtype in (("reference", torch.float64), ("cpu", torch.float32)):
        # Values.
        leaves = {name: vector[f"in/{key}"].to(dtype).requires_grad_() for name, key in present.items()}
        results = tree_leaves(function(**leaves, **options, backend=backend))
        values = dict(zip(outputs, results, strict=True))
        _compare(vector, "out/", values, dtype, OUTPUT_TOLERANCE, None)

        # Gradients.
        gradients = _gradients(vector, values, {key: leaves[name] for name, key in present.items()})
        _compare(vector, "grad/", gradients, dtype, GRADIENT_TOLERANCE, gradient_share)


def options_of(vector: GoldenVector, function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments of a function that the file's configuration holds; the text of a default is left out."""
    known = {
        name for name, parameter in signature(function).parameters.items() if parameter.kind.name == "KEYWORD_ONLY"
    }
    options = {name: value for name, value in vector.config.items() if name in known}
    return {name: v for name, v in options.items() if not (name == "scale" and isinstance(v, str))}


def _gradients(vector: GoldenVector, values: Mapping[str, Tensor], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients by the file's names; zero where nothing depends on an argument."""
    upstream = {name: vector[f"in/d_{name}"] for name in values if f"in/d_{name}" in vector}
    loss = sum((values[name] * cotangent.to(values[name].dtype)).sum() for name, cotangent in upstream.items())
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True))


def _compare(
    vector: GoldenVector,
    prefix: str,
    actual: Mapping[str, Tensor],
    dtype: torch.dtype,
    tolerance: float,
    share: float | None,
) -> None:
    """All results below a prefix: float32 by the largest value, float64 value by value unless a share is given."""
    for name in vector.names(prefix):
        key = prefix + name
        assert name in actual, f"{key} is in the file, the operator gives {sorted(actual)}"
        assert actual[name].dtype == dtype, f"{key}: {actual[name].dtype}, expected {dtype}"
        expected = vector.expected(key).double()
        largest = expected.abs().max().item() if expected.numel() else 0.0
        if dtype == torch.float64 and share is None:
            rounded = expected.float().double().equal(expected)
            bounds = {"rtol": 1e-9 + rounded * ROUNDED, "atol": 1e-11}
        else:
            bounds = {"rtol": 0, "atol": (tolerance if share is None or dtype == torch.float32 else share) * largest}
        value = actual[name].detach().double()
        assert_close(value, expected, **bounds, msg=lambda text, key=key: f"{dtype} {key}: {text}")
