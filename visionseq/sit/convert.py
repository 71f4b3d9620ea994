"""Official checkpoints of SiT (arXiv 2401.08740) <-> ours; exact, strict, both ways.

Our module has the official names, so conversion checks and copies. Official files hold a state dict, or one under
"ema" (the average, which the samples come from) beside one under "model".
"""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visionseq.errors import CheckpointError, ConfigError
from visionseq.saving.weights import load_state
from visionseq.sit.model import CONFIG, SiT
from visionseq.sit.presets import PRESETS

HARMLESS = (Namespace,)  # trainers of this family put their arguments beside the weights
VAE = "stabilityai/sd-vae-ft-ema, scaled by 0.18215"
LICENCE = (
    "mit",
    "The official code and weights (github.com/willisma/SiT) are under the MIT licence; the models were trained on "
    "ImageNet, whose images are for non-commercial research.",
)


def from_official(state: Mapping[str, Any], config: Mapping[str, Any]) -> SiT:
    """Our model, in eval mode, from an official state and the constructor's arguments.

    Args:
        state: names -> tensors, or the content of a file that holds them under "ema" or "model".
        config: values of `SiT`'s arguments by name; those that are missing have their defaults.

    Raises:
        CheckpointError: the state does not match; with a table of missing, unexpected and misshapen entries.
        ConfigError: the configuration has a value or an argument that the model does not know.
    """
    weights = unwrap(state)
    if not isinstance(weights, Mapping) or not weights:
        raise CheckpointError(f"the official state is {type(weights).__name__}, expected a dict of names and tensors")
    model = build(config)
    load_state(model, weights, "the official state")
    return model.eval()


def build(config: Mapping[str, Any]) -> SiT:
    """Our model, freshly initialised, from values of its arguments; raises `ConfigError`."""
    unknown = [name for name in config if name not in CONFIG]
    if unknown:
        raise ConfigError(f"configuration: SiT has no {', '.join(unknown)}; its arguments: {', '.join(CONFIG)}")
    return SiT.from_config(dict(config))


def to_official(model: SiT) -> dict[str, Tensor]:
    """State dict in the official layout, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def official_config(model: SiT) -> dict[str, Any]:
    """Values that `from_official` rebuilds the model from."""
    return dict(model.config)


def presets() -> dict[str, dict[str, Any]]:
    """The official sizes by name."""
    return {name: dict(config) for name, config in PRESETS.items()}


def preprocessing_of(model: SiT) -> dict[str, Any]:
    """The input: latents of the official autoencoder where there are four channels, images in [-1, 1] otherwise."""
    channels, size, _ = model.sample_shape
    values: dict[str, Any] = {"kind": "image", "size": size, "channels": channels, "class_names": []}
    return {**values, "kind": "latent", "encoder": VAE} if channels == 4 else values


def unwrap(content: Any) -> Any:
    """The state in the content of an official file: the average where there is one."""
    if isinstance(content, Mapping):
        for name in ("ema", "model"):
            if isinstance(content.get(name), Mapping):
                return content[name]
    return content
