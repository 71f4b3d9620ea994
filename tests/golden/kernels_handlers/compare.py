"""One operator against a golden file: the reference in float64, the CPU backend in float32, values and gradients.

A file holds `in/<argument>`, `in/d_<output>`, `out/<output>` and `grad/<argument>`; the gradients are those of the sum
over the outputs of <output, d_output>. What the file holds has to be compared: a tensor that no name asks for is an
error, an optional argument that the file does not have is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from golden_vector import GoldenVector
from torch import Tensor
from torch.utils._pytree import tree_leaves

OUTPUT_TOLERANCE = 2e-5  # of the largest reference value, float32
GRADIENT_TOLERANCE = 1e-4


def check_operator(
    vector: GoldenVector,
    function: Callable[..., Any],
    arguments: Mapping[str, str],
    outputs: Sequence[str],
    *,
    gradient_rtol: float = 1e-9,
    **options: Any,
) -> None:
    """Assert that the operator gives the file's values and gradients with both backends.

    Args:
        vector: the file; `reverse` of its configuration and its `cu_seqlens` are handed to the function.
        function: called with the arguments, the options and `backend`.
        arguments: names of the function's tensors and the names that they have in the file.
        outputs: the file's names of the results, in the function's order; results of nested tuples count one by one.
        gradient_rtol: of the float64 gradients.
        options: further keyword arguments of the function.
    """
    present = {name: key for name, key in arguments.items() if f"in/{key}" in vector}
    _check_complete(vector, set(present.values()), outputs)
    if "reverse" in vector.config:
        options["reverse"] = vector.config["reverse"]
    if "in/cu_seqlens" in vector:
        options["cu_seqlens"] = vector["in/cu_seqlens"]
    for backend, dtype in (("reference", torch.float64), ("cpu", torch.float32)):
        tensors = {name: vector[f"in/{key}"].to(dtype).requires_grad_() for name, key in present.items()}
        results = tree_leaves(function(**tensors, **options, backend=backend))
        values = dict(zip(outputs, results, strict=True))
        gradients = _gradients(vector, values, {key: tensors[name] for name, key in present.items()})
        for kind, found, rtol, tolerance in (
            ("out", values, 1e-9, OUTPUT_TOLERANCE),
            ("grad", gradients, gradient_rtol, GRADIENT_TOLERANCE),
        ):
            for name, expected in vector.tensors(f"{kind}/").items():
                _compare(f"{backend} {kind}/{name}", found[name], expected.double(), dtype, rtol, tolerance)


def _check_complete(vector: GoldenVector, arguments: set[str], outputs: Sequence[str]) -> None:
    """Assert that every tensor of the file takes part in the comparison."""
    known = arguments | {f"d_{name}" for name in outputs} | {"cu_seqlens"}
    unused = [f"in/{name}" for name in vector.tensors("in/") if name not in known]
    unused += [f"out/{name}" for name in vector.tensors("out/") if name not in outputs]
    unused += [f"grad/{name}" for name in vector.tensors("grad/") if name not in arguments]
    assert not unused, f"{vector.path.name} holds {unused}, which the handler does not compare"


def _gradients(vector: GoldenVector, values: Mapping[str, Tensor], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients by the file's names; zero where nothing depends on an argument."""
    upstream = {name: vector[f"in/d_{name}"] for name in values if f"in/d_{name}" in vector}
    loss = sum((values[name] * cotangent.to(values[name].dtype)).sum() for name, cotangent in upstream.items())
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def _compare(name: str, found: Tensor, expected: Tensor, dtype: torch.dtype, rtol: float, tolerance: float) -> None:
    assert found.shape == expected.shape, f"{name}: shape {list(found.shape)}, expected {list(expected.shape)}"
    assert found.dtype == dtype, f"{name}: {found.dtype}, expected {dtype}"
    found = found.detach().double()
    if dtype == torch.float64:
        if expected.float().double().equal(expected):  # rounded to float32 on the official code's way
            rtol += torch.finfo(torch.float32).eps / 2
        torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-11, msg=lambda text: f"{name}: {text}")
    elif expected.numel():
        error, bound = (found - expected).abs().max().item(), tolerance * expected.abs().max().item()
        assert error <= bound, f"{name}: max|a-b| = {error:.3e}, allowed {bound:.3e}"
