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
    "gb": "b_last",
}
Run = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def runs_of(vector: GoldenVector, prefixes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The prefixes that a file has, with what they stand for; one empty prefix where it has none."""
    present = [(prefix, meaning) for prefix, meaning in prefixes.items() if f"in/{prefix}gy" in vector]
    assert present, f"{vector.path.name}: none of the runs {list(prefixes)}"
    yield from present


def dtypes_of(vector: GoldenVector, f64: float, f32: float) -> Iterator[tuple[torch.dtype, float]]:
    """Dtypes to compute a file in with their tolerances: those given, where the file does not say otherwise."""
    stored = next(value.dtype for value in vector.tensors("in/").values() if value.is_floating_point())
    stated = dict(re.findall(r"(f64|f32) ([\d.]+e-?\d+)", vector.tolerance))
    plain = re.match(r"[\d.]+e-?\d+", vector.tolerance)
    if plain:
        stated.setdefault("f64" if stored == torch.float64 else "f32", plain[0])
    if stored == torch.float64:
        yield torch.float64, float(stated.get("f64", f64))
    yield torch.float32, float(stated.get("f32", f32))


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
        close_in(vector, f"out/{prefix}{name}", value, tolerance, dtype)
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
    names = vector.names(f"grad/{prefix}")
    assert leaves.keys() >= set(names), f"no inputs for the gradients {set(names) - leaves.keys()}"
    gradients = torch.autograd.grad(loss, [leaves[name] for name in names], allow_unused=True, materialize_grads=True)
    for name, gradient in zip(names, gradients, strict=True):
        close_in(vector, f"grad/{prefix}{name}", gradient, tolerance, dtype)


def close_in(vector: GoldenVector, key: str, actual: Tensor, tolerance: float, dtype: torch.dtype) -> None:
    """`vector.close`, and the dtype that the value was computed in."""
    assert actual.dtype == dtype, f"{key}: {actual.dtype}, expected {dtype}"
    vector.close(key, actual, tolerance)


def _has_gradient(vector: GoldenVector, name: str) -> bool:
    return any(key == name or key.endswith(f"_{name}") for key in vector.names("grad/"))
