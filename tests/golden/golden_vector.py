"""One golden file: metadata, tensors, and the weights that it or its named sibling holds."""

import json
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open


class GoldenVector:
    """Tensors named `state/ in/ out/ grad/` with the `config` that produced them."""

    def __init__(self, path: Path):
        self.path = path
        with safe_open(path, framework="pt") as file:
            self.meta = file.metadata() or {}
            self._tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)

    @cached_property
    def config(self) -> dict:
        return json.loads(self.meta.get("config", "{}"))

    @property
    def tolerance(self) -> str:
        return self.meta.get("tolerance", "")

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        """Float32 weights of this file, or of the sibling that `state_from` names."""
        if sibling := self.meta.get("state_from"):
            return GoldenVector(self.path.with_name(f"{Path(sibling).stem}.safetensors")).state
        return {
            key: value.float() if value.is_floating_point() else value for key, value in self.tensors("state/").items()
        }

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        return {key[len(prefix) :]: value for key, value in self._tensors.items() if key.startswith(prefix)}

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self._tensors


class ReadVector(GoldenVector):
    """A golden file that knows which outputs nobody has asked for."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.unread = {key for key in self._tensors if key.startswith("out/")}

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        self.unread = {key for key in self.unread if not key.startswith(prefix)}
        return super().tensors(prefix)

    def __getitem__(self, key: str) -> torch.Tensor:
        self.unread.discard(key)
        return super().__getitem__(key)


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Assert max|a-b| <= tolerance * max(1, max|b|)."""
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    actual, expected = actual.detach().double(), expected.double()
    error, bound = (actual - expected).abs().max().item(), tolerance * max(1.0, expected.abs().max().item())
    assert error <= bound, f"max|a-b| = {error:.3e}, allowed {bound:.3e}"
