"""What the handlers of LION share: gradients, their norms, running statistics, the operator of the stub files."""

import torch
from golden_vector import GoldenVector
from torch import Tensor, nn

from visionseq.lion.layer import Operator, operator
from visionseq.nn.sparse import SparseTensor

SMALL = 0.1  # gradients that vanish in exact arithmetic, as of a bias before BatchNorm, have only rounding errors


class Stub(nn.Module):
    """y = x + gain * h with h a decaying sum from left to right; parameters of each channel."""

    def __init__(self, d_model: int, layer_id: int = 0, n_layer: int = 1):
        super().__init__()
        self.decay = nn.Parameter(torch.zeros(d_model))
        self.gain = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        decay, state, outputs = self.decay.sigmoid(), torch.zeros_like(x[:, 0]), []
        for token in x.unbind(1):
            state = decay * state + token
            outputs.append(token + self.gain * state)
        return torch.stack(outputs, 1)


def operator_of(name: str, options: dict) -> Operator:
    return Stub if name == "Stub" else operator(name, **options)


def dtype_of(vector: GoldenVector, key: str = "in/features") -> torch.dtype:
    return vector[key].dtype


def load(module: nn.Module, vector: GoldenVector, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The module with exactly the state of the file."""
    state = {k: v.reshape(()) if k.endswith("num_batches_tracked") else v for k, v in vector.state.items()}
    state.pop("global_step", None)  # a counter of the official trainer
    module.to(dtype).load_state_dict(state, strict=True)
    return module


def sparse_of(vector: GoldenVector, shape: tuple[int, ...], batch_size: int) -> SparseTensor:
    features = vector["in/features"].clone().requires_grad_()
    return SparseTensor(features, vector["in/indices"].long(), tuple(shape), batch_size)


def check_gradients(vector: GoldenVector, module: nn.Module, relative: float, inputs: dict[str, Tensor]) -> None:
    """All grad/ tensors of the file, and the norms of `config.grad_norms`, within a share of the largest value."""
    parameters = {**dict(module.named_parameters()), **inputs}
    norms = vector.config.get("grad_norms", {})
    assert vector.names("grad/") or norms, f"{vector.path.name} has no gradient"

    # Whole gradients.
    for name in vector.names("grad/"):
        expected = vector.expected(f"grad/{name}")
        assert parameters[name].grad is not None, f"{name} has no gradient"
        error = (parameters[name].grad.double() - expected.double()).abs().max().item()
        allowed = relative * max(expected.abs().max().item(), SMALL)
        assert error <= allowed, f"gradient of {name}: {error:.3e}, allowed {allowed:.3e}"

    # Norms.
    for name, expected in norms.items():
        assert name in parameters, f"no parameter {name}"
        gradient = parameters[name].grad
        norm = 0.0 if gradient is None else gradient.double().norm().item()
        assert abs(norm - expected) <= relative * max(expected, SMALL), f"norm of the gradient of {name}"


def check_statistics(vector: GoldenVector, module: nn.Module, prefix: str, tolerance: float) -> None:
    """Running statistics after one call in training."""
    state = module.state_dict()
    for name in vector.names(prefix):
        vector.close(prefix + name, state[name].reshape(vector[prefix + name].shape), tolerance)
