"""What the handlers of ARFlow share: networks of a file, and gradients."""

from inspect import signature

from golden_vector import GoldenVector
from torch import Tensor, nn

from visionseq.arflow.convert import from_official
from visionseq.arflow.model import ARFlow


def network_of(vector: GoldenVector) -> ARFlow:
    """The network of a file; what else its configuration holds belongs to the run."""
    known = signature(ARFlow.__init__).parameters
    config = {name: value for name, value in vector.config.items() if name in known}
    return from_official(vector.state, config)


def parameter_gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}
