"""Official checkpoints of BFM (arXiv 2510.21167) <-> ours; exact, strict, both ways.

Our modules have the official names, so conversion checks and copies. accelerate writes `model.safetensors`, the weights
that the optimiser worked on, and `model_1.safetensors`, their average; both have this layout. What torch.compile and
distributed training put into names is removed wherever it stands. The official YAML file has the network's arguments
under `model.network_config` and its size under `model.type`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visionseq.bfm.model import BFM, FRN, build_bfm
from visionseq.bfm.presets import PRESETS
from visionseq.errors import CheckpointError, ConfigError
from visionseq.saving.weights import load_state
from visionseq.saving.wrapped_names import plain_name

LICENCE = (
    "unknown",
    "The official repository (github.com/mlvlab/Blockwise-Flow-Matching) names no licence: its authors keep all rights "
    "in weights that come from it.",
)
WITHOUT_EFFECT = ("time_shifting", "concat_adaln")  # arguments of the official code
OURS = ("path_type",)  # arguments of ours that no official file has
IN_FRONT = "module."


def from_official(state: Mapping[str, Any], config: Mapping[str, Any]) -> BFM:
    """Our model, in eval mode, from an official state and the values of the official configuration.

    Args:
        state: names and tensors, of the model or of its average.
        config: arguments of the network, or a whole official file. Without `finetune`, the model has an FRN where the
            state has one.

    Raises:
        CheckpointError: the state does not match; with a table of missing, unexpected and misshapen entries.
        ConfigError: the configuration has a value or an argument that the network does not know.
    """
    weights = _plain(unwrap(state))
    values = network_config(config)
    model = build({"finetune": any(name.startswith(FRN) for name in weights), **values})
    load_state(model, weights, "the official state")
    return model.eval()


def build(config: Mapping[str, Any]) -> BFM:
    """Our model, freshly initialised, from the values of the official configuration; raises `ConfigError`."""
    return build_bfm(network_config(config))


def to_official(model: BFM) -> dict[str, Tensor]:
    """State dict in the official layout, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def official_config(model: BFM) -> dict[str, Any]:
    """The arguments of the network, under the official names."""
    return {name: value for name, value in model.config.items() if name not in OURS}


def presets() -> dict[str, dict[str, Any]]:
    """The arguments of the official networks by name."""
    return {name: dict(values) for name, values in PRESETS.items()}


def preprocessing_of(model: BFM) -> dict[str, Any]:
    """The input of the official networks: scaled latents of a variational autoencoder, or images in [-1, 1]."""
    kind = "latent" if model.in_channels == 4 else "image"
    return {"kind": kind, "size": model.context_size, "channels": model.in_channels, "class_names": []}


def unwrap(content: Any) -> Any:
    """The state in the content of an official file, which holds nothing else."""
    return content


def network_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The network's arguments in an official configuration: those of `model.network_config` over those of its type."""
    values = dict(config)
    if "model" in values:
        section = values["model"]
        if not isinstance(section, Mapping) or not isinstance(section.get("network_config"), Mapping):
            raise ConfigError("configuration: `model` has no `network_config`, expected an official BFM file")
        size = str(section.get("type", "BFM_XL"))
        if size not in PRESETS:
            raise ConfigError(f"configuration: model.type {size!r}, expected one of {', '.join(PRESETS)}")
        values = {**PRESETS[size], **section["network_config"]}
    return {name: value for name, value in values.items() if name not in WITHOUT_EFFECT}


def _plain(state: Any) -> dict[str, Tensor]:
    """Names without `_orig_mod.` and a leading `module.` -> tensors."""
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"the official state is a {type(state).__name__}, expected a dict of names and tensors")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"the official state: entry {name!r} is a {type(value).__name__}, expected a tensor")
    return {plain_name(name).removeprefix(IN_FRONT): tensor for name, tensor in state.items()}
