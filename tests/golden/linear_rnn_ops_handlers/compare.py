"""A golden file of the linear RNN operators against a function: values and gradients, in float64 and in float32.

A file holds `in/<name>`, cotangents `in/<prefix>g<...>`, `out/<prefix><name>` and `grad/<prefix><name>`; a prefix names
one of several runs on the same inputs. Float64 files are checked with the references in float64 and with the backend of
the CPU in float32, float32 files with the latter.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from golden_vector import GoldenVector
from torch import Tensor

COTANGENTS = {
    "gy": "y",
    "gstate": "final_state",
    "glast": "last_state",
    "gC": "C",
    "gn": "n",
    "gm": "m",
    "gW": "W_last",
}
Run = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def runs_of(vector: GoldenVector, prefixes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The prefixes that a file has, with what they stand for; one empty prefix where it has none."""
    found = [(prefix, meaning) for prefix, meaning in prefixes.items() if f"in/{prefix}gy" in vector]
    assert found, f"{vector.path.name}: none of the runs {list(prefixes)}"
    yield from found


def dtypes_of(vector: GoldenVector, f64: float, f32: float) -> Iterator[tuple[torch.dtype, float]]:
    """Dtypes to compute a file in with their tolerances: those given, where the file does not say otherwise."""
    stored = next(value.dtype for value in vector.tensors("in/").values() if value.is_floating_point())
    said = dict(re.findall(r"(f64|f32) ([\d.]+e-?\d+)", vector.tolerance))
    plain = re.match(r"[\d.]+e-?\d+", vector.tolerance)
    if plain:
        said.setdefault("f64" if stored == torch.float64 else "f32", plain[0])
    if stored == torch.float64:
        yield torch.float64, float(said.get("f64", f64))
    yield torch.float32, float(said.get("f32", f32))


def leaves_of(vector: GoldenVector, dtype: torch.dtype) -> dict[str, Tensor]:
    """The inputs, those with a gradient as leaves; cotangents and offsets as they are."""
    leaves = {}
    for name, value in vector.tensors("in/").items():
        value = value.to(dtype) if value.is_floating_point() else value
        leaves[name] = value.requires_grad_() if _has_gradient(vector, name) else value
    return leaves


def check_run(vector: GoldenVector, run: Run, dtype: torch.dtype, tolerance: float, prefix: str = "") -> None:
    """Assert that `run(inputs)` gives the outputs with the prefix, and their gradients by all inputs."""
    inputs = leaves_of(vector, dtype)
    outputs = run(inputs)
    for name, value in outputs.items():
        if f"out/{prefix}{name}" in vector:
            close(f"out/{prefix}{name}", value, vector[f"out/{prefix}{name}"], tolerance, dtype)
    check_gradients(vector, outputs, inputs, dtype, tolerance, prefix)


def check_gradients(
    vector: GoldenVector,
    outputs: Mapping[str, Tensor],
    leaves: Mapping[str, Tensor],
    dtype: torch.dtype,
    tolerance: float,
    prefix: str = "",
) -> None:
    """Assert the gradients of the sum of the outputs times the file's cotangents."""
    loss = sum(
        (outputs[output] * vector[f"in/{prefix}{name}"].to(dtype)).sum()
        for name, output in COTANGENTS.items()
        if f"in/{prefix}{name}" in vector
    )
    wanted = vector.tensors(f"grad/{prefix}")
    names = [name for name in wanted if name in leaves]
    assert len(names) == len(wanted), f"no inputs for the gradients {set(wanted) - set(names)}"
    found = torch.autograd.grad(loss, [leaves[name] for name in names], allow_unused=True, materialize_grads=True)
    for name, gradient in zip(names, found, strict=True):
        close(f"grad/{prefix}{name}", gradient, wanted[name], tolerance, dtype)


def close(name: str, found: Tensor, expected: Tensor, tolerance: float, dtype: torch.dtype | None = None) -> None:
    """Assert max|a-b| <= tolerance * max(1, max|b|), shape, and, where one is given, dtype."""
    assert found.shape == expected.shape, f"{name}: shape {list(found.shape)}, expected {list(expected.shape)}"
    assert dtype is None or found.dtype == dtype, f"{name}: {found.dtype}, expected {dtype}"
    if not expected.numel():
        return
    found, expected = found.detach().double(), expected.double()
    error, bound = (found - expected).abs().max().item(), tolerance * max(1.0, expected.abs().max().item())
    assert error <= bound, f"{name}: max|a-b| = {error:.3e}, allowed {bound:.3e}"


def _has_gradient(vector: GoldenVector, name: str) -> bool:
    return any(key == name or key.endswith(f"_{name}") for key in vector.tensors("grad/"))
