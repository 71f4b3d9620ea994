"""Official checkpoints to our models and back, by room.

`from_official(room, state, config)` builds our model from an official state dict and the official configuration values,
strictly; `to_official(room, model)` gives the official state dict back, bit for bit.
"""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.nn.pretrained import PretrainedModel

CONVERTERS = {"rectified_flow": "visionseq.rectified_flow.convert"}


def from_official(room: str, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> PretrainedModel:
    """Our model of `room` with the weights of an official state dict, in eval mode.

    Args:
        room: Name of the room, a key of `CONVERTERS`.
        state: Official names -> tensors.
        config: The official configuration's values (its JSON or YAML file as a dict).

    Raises `ConfigError` for an unknown room or unusable config, `CheckpointError` listing missing, unexpected and
    misshapen entries.
    """
    return _converter(room).from_official(state, config).eval()


def to_official(room: str, model: PretrainedModel) -> dict[str, Tensor]:
    """The official state dict of a model of `room`; raises `ConfigError` for an unknown room."""
    return _converter(room).to_official(model)


def _converter(room: str) -> ModuleType:
    if room not in CONVERTERS:
        close = get_close_matches(room, CONVERTERS, n=3) or sorted(CONVERTERS)
        raise ConfigError(f"no converter for the room {room!r}; did you mean {', '.join(close)}?")
    return importlib.import_module(CONVERTERS[room])
