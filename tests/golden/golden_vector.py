"""One golden file: what its handler may read, and what its handler has to compare.

`state/` (weights and buffers before the run) and `in/` are read. Everything else (`out/`, `grad/`) is a result, and a
result counts only once it was handed out for a comparison: by `close`, `equal`, `close_all`, or by `expected` where a
handler needs a measure of its own.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

READABLE = ("state/", "in/")


class GoldenVector:
    """Tensors by name, the `config` that made them, and a record of the tensors that no handler has used yet."""

    def __init__(self, path: Path):
        self.path = path
        with safe_open(path, framework="pt") as file:
            self.meta = file.metadata() or {}
            self._tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        self.unused = set(self._tensors)

    @cached_property
    def config(self) -> dict[str, Any]:
        return json.loads(self.meta.get("config", "{}"))

    @property
    def tolerance(self) -> str:
        return self.meta.get("tolerance", "")

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Weights and buffers of this file, or of the sibling that `state_from` names; half precision as float32."""
        if sibling := self.meta.get("state_from"):
            name = sibling.split()[0].removesuffix(".safetensors")
            return GoldenVector(self.path.with_name(f"{name}.safetensors")).state
        halves = (torch.float16, torch.bfloat16)
        return {key: v.float() if v.dtype in halves else v for key, v in self.tensors("state/").items()}

    def names(self, prefix: str) -> list[str]:
        """What follows the prefix in the names of the tensors that have it."""
        return [key[len(prefix) :] for key in self._tensors if key.startswith(prefix)]

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All tensors below a prefix, for reading."""
        return {name: self[prefix + name] for name in self.names(prefix)}

    def __getitem__(self, key: str) -> Tensor:
        """A tensor for reading. A result that is only read still waits for its comparison."""
        if key.startswith(READABLE):
            self.unused.discard(key)
        return self._tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def expected(self, key: str) -> Tensor:
        """A result, for a comparison that the caller makes."""
        self.unused.discard(key)
        return self._tensors[key]

    def close(self, key: str, actual: Any, tolerance: float) -> None:
        """Assert that a result, if the file has it, is within tolerance * max(1, max|expected|); NaN equals NaN."""
        if key in self:
            close(key, actual, self.expected(key), tolerance)

    def equal(self, key: str, actual: Any) -> None:
        """Assert that a result, if the file has it, is exactly this one; dtypes may differ."""
        self.close(key, actual, 0.0)

    def close_all(self, prefix: str, actual: Mapping[str, Any], tolerance: float) -> None:
        """Assert every result below a prefix by its name; what the file does not hold is left out."""
        for name in self.names(prefix):
            assert name in actual, f"{prefix}{name} is in the file, the handler computes {sorted(actual)}"
            self.close(prefix + name, actual[name], tolerance)


def close(name: str, actual: Any, expected: Tensor, tolerance: float) -> None:
    """Assert one shape and max|actual - expected| <= tolerance * max(1, max|expected|); NaN equals NaN."""
    actual = torch.as_tensor(actual).detach()
    assert actual.shape == expected.shape, f"{name}: shape {list(actual.shape)}, expected {list(expected.shape)}"
    largest = expected.double().nan_to_num(posinf=0, neginf=0).abs().max().item() if expected.numel() else 0.0
    bound = tolerance * max(1.0, largest)
    options = {"rtol": 0, "atol": bound, "equal_nan": True, "msg": lambda text: f"{name}: {text}"}
    assert_close(actual.double(), expected.double(), **options)


def first_number(text: str, default: float) -> float:
    """The first number such as 1e-5 or 2.5e-4 of a file's text about tolerances."""
    number = re.search(r"\d+(?:\.\d+)?e-?\d+", text)
    return float(number[0]) if number else default
