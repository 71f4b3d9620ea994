"""Official checkpoints of ARFlow (arXiv 2501.16085) <-> ours; exact, strict, both ways.

Our names are the official ones, so conversion checks and copies. A training checkpoint of the official code holds
`model`, `ema`, `opt` and `args`; the averaged weights are taken. `args` is an argparse.Namespace, which is read as
plain values and left aside.
"""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visionseq.arflow.model import ARFlow
from visionseq.arflow.presets import PRESETS
from visionseq.errors import CheckpointError, ConfigError
from visionseq.saving.weights import check_fit, load_state

HARMLESS = (Namespace,)  # classes that an official checkpoint may name; see visionseq.saving.weights.read_checkpoint
LICENCE = (
    "mit",
    "The official code is under the MIT licence (github.com/TheFllood/ARFlow); no licence is known for the released "
    "weights, which were trained on ImageNet.",
)
UNUSED = ("drop_rate", "attn_drop_rate", "drop_path_rate")  # zero in every official model
ENCODER = "stabilityai/sd-vae-ft-ema, scale 0.18215"


def from_official(state: Mapping[str, Any], config: Mapping[str, Any]) -> ARFlow:
    """Our model, in eval mode, from an official state.

    Args:
        state: official names -> tensors, or the content of a training checkpoint.
        config: arguments of the official network, and `path` where it is not Linear.

    Raises:
        CheckpointError: the state does not match; with a table of missing, unexpected and misshapen entries.
        ConfigError: the configuration has a value or an argument that the network does not know.
    """
    state = unwrap(state)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"the official state is a {type(state).__name__}, expected a dict of names and tensors")
    with torch.device("meta"):  # a state of another size is refused before the memory for this one is taken
        check_fit(build(config), state, "the official state")
    model = build(config)
    load_state(model, state, "the official state")
    return model.eval()


def build(config: Mapping[str, Any]) -> ARFlow:
    """Our model, freshly initialised, from the arguments of the official network; raises `ConfigError`."""
    arguments = dict(config)
    for name in UNUSED:
        if arguments.pop(name, 0):
            raise ConfigError(f"configuration: {name} {config[name]} is not supported, it is 0 in every official model")
    try:
        return ARFlow(**arguments)
    except TypeError as error:
        raise ConfigError(f"configuration: {error}") from error


def to_official(model: ARFlow) -> dict[str, Tensor]:
    """State dict in the official layout, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def official_config(model: ARFlow) -> dict[str, Any]:
    """Arguments of the official network, and the path."""
    return dict(model.config)


def presets() -> dict[str, dict[str, Any]]:
    """Arguments of the official networks by name."""
    return {name: dict(arguments) for name, arguments in PRESETS.items()}


def preprocessing_of(model: ARFlow) -> dict[str, Any]:
    """The input of the official networks: scaled latents of Stable Diffusion's autoencoder."""
    shape = {"size": model.input_size, "channels": model.in_channels, "class_names": []}
    return {"kind": "latent", **shape, "encoder": ENCODER}


def unwrap(content: Any) -> Any:
    """The state in the content of an official file: the averaged weights where it has them."""
    if not isinstance(content, Mapping):
        return content
    averaged = content.get("ema")
    return averaged if isinstance(averaged, Mapping) else content
