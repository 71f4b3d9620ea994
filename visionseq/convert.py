"""Official checkpoints to our models and back, by room.

`from_official(room, state, config)` builds our model from an official state dict and the official configuration values,
strictly; `to_official(room, model)` gives the official state dict back, bit for bit.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from visionseq.errors import CheckpointError
from visionseq.rooms import converter
from visionseq.saving.pretrained import AllocationLimit, PretrainedModel
from visionseq.saving.weights import read_checkpoint, read_safetensors
from visionseq.saving.wrapped_names import plain_name, plain_state
from visionseq.zoo.table import model_class


def from_official(
    room: str, state: Mapping[str, Any], config: Mapping[str, Any], model: str | None = None
) -> PretrainedModel:
    """Our model of `room` with the weights of an official state dict, in eval mode.

    Args:
        room: Name of the room.
        state: Official names -> tensors.
        config: The official configuration's values (its JSON or YAML file as a dict).
        model: Which of the room's models to build where the weights suit several; default: the room's choice.

    Raises:
        ConfigError: an unknown room, or a config that cannot be used.
        CheckpointError: the state does not match; with a table of missing, unexpected and misshapen entries.
    """
    part = converter(room)
    options = {} if model is None else {"model": model_class(room, model, "the argument `model`")}
    state = part.unwrap(state)
    if isinstance(state, Mapping):
        state = plain_state(state, "the official state")
    converted = part.from_official(state, config, **options).eval()
    converted.preprocessing = part.preprocessing_of(converted)
    return converted


def to_official(room: str, model: PretrainedModel) -> dict[str, Tensor]:
    """The official state dict of a model of `room`; raises `ConfigError` for an unknown room."""
    return {plain_name(name): tensor for name, tensor in converter(room).to_official(model).items()}


def official_config(room: str, model: PretrainedModel) -> dict[str, Any]:
    """The official configuration's values of a model of `room`; raises `ConfigError` for an unknown room."""
    return converter(room).official_config(model)


def preset_configs(room: str) -> dict[str, dict[str, Any]]:
    """Names of the official configurations that we know of a room, and their values."""
    return converter(room).presets()


def licence(room: str) -> tuple[str, str]:
    """Licence of converted weights of a room, as a model card names it, and a sentence about it."""
    return converter(room).LICENCE


def read_official(room: str, path: str | os.PathLike) -> dict[str, Tensor]:
    """The named tensors of an official .pth or .safetensors file, taken out of a trainer's checkpoint where it is one.

    Raises:
        CheckpointError: the file cannot be read without running code, or holds something else than names and tensors.
    """
    part = converter(room)
    harmless = getattr(part, "HARMLESS", ())  # classes that the trainer of the official code puts beside the weights
    content = read_safetensors(path) if Path(path).suffix == ".safetensors" else read_checkpoint(path, harmless)
    state = part.unwrap(content)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        kind = f"entries {', '.join(map(str, state))[:200]}" if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path} holds {kind}, expected a state dict: names and tensors only")
    return plain_state(state, path)


def fitting_presets(room: str, state: Mapping[str, Any]) -> list[str]:
    """The official configurations whose network has exactly the names and shapes of `state`, in their order."""
    matching: dict[str, dict[str, Any]] = {}
    for name, config in preset_configs(room).items():
        if config in matching.values() or _matches(room, state, config):
            matching[name] = config
    return list(matching)


def _matches(room: str, state: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    try:
        with AllocationLimit(tensors):
            from_official(room, state, config)
    except (CheckpointError, ValueError):
        return False
    return True
