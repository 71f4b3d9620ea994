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

from visionseq.errors import CheckpointError, ConfigError
from visionseq.saving.pretrained import AllocationLimit, PretrainedModel
from visionseq.zoo.table import model_class

CONVERTERS = {"lion": "visionseq.lion.convert", "rectified_flow": "visionseq.rectified_flow.convert"}


def from_official(
    room: str, state: Mapping[str, Any], config: Mapping[str, Any], model: str | None = None
) -> PretrainedModel:
    """Our model of `room` with the weights of an official state dict, in eval mode.

    Args:
        room: Name of the room, a key of `CONVERTERS`.
        state: Official names -> tensors.
        config: The official configuration's values (its JSON or YAML file as a dict).
        model: Which of the room's models to build where the weights suit several; default: the room's choice.

    Raises:
        ConfigError: an unknown room, or a config that cannot be used.
        CheckpointError: the state does not fit; with a table of missing, unexpected and misshapen entries.
    """
    converter = _converter(room)
    options = {} if model is None else {"model": model_class(room, model, "the argument `model`")}
    converted = converter.from_official(state, config, **options).eval()
    converted.preprocessing = _PREPROCESSING[room](converted)
    return converted


def to_official(room: str, model: PretrainedModel) -> dict[str, Tensor]:
    """The official state dict of a model of `room`; raises `ConfigError` for an unknown room."""
    return _converter(room).to_official(model)


def official_config(room: str, model: PretrainedModel) -> dict[str, Any]:
    """The official configuration's values of a model of `room`; raises `ConfigError` for an unknown room."""
    return _converter(room).official_config(model)


def preset_configs(room: str) -> dict[str, dict[str, Any]]:
    """Names of the official configurations that we know of a room, and their values."""
    _converter(room)
    return _PRESETS[room]()


def fitting_presets(room: str, state: Mapping[str, Any]) -> list[str]:
    """The official configurations whose network has exactly the names and shapes of `state`, in their order."""
    fitting: dict[str, dict[str, Any]] = {}
    for name, config in preset_configs(room).items():
        if config in fitting.values() or _fits(room, state, config):
            fitting[name] = config
    return list(fitting)


def _fits(room: str, state: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    size = sum(value.numel() for value in state.values() if isinstance(value, Tensor))
    try:
        with AllocationLimit(size):
            from_official(room, state, config)
    except (CheckpointError, ValueError):
        return False
    return True


def _rectified_flow_presets() -> dict[str, dict[str, Any]]:
    from visionseq.rectified_flow.presets import PRESETS

    return {name: {**preset.network, "use_fp16": preset.use_fp16} for name, preset in PRESETS.items()}


def _of_images(model: Any) -> dict[str, Any]:
    """What the official image pipelines feed a network: square images in [-1, 1], nothing else."""
    return {"kind": "image", "size": model.img_resolution, "channels": model.in_channels, "class_names": []}


def _lion_presets() -> dict[str, dict[str, Any]]:
    from visionseq.lion.presets import preset, preset_names

    return {name: preset(name) for name in preset_names()}


def _of_points(model: Any) -> dict[str, Any]:
    from visionseq.lion.convert import preparation_of

    return preparation_of(model).preprocessing


_PREPROCESSING = {"lion": _of_points, "rectified_flow": _of_images}
_PRESETS = {"lion": _lion_presets, "rectified_flow": _rectified_flow_presets}


def _converter(room: str) -> ModuleType:
    if room not in CONVERTERS:
        close = get_close_matches(room, CONVERTERS, n=3) or sorted(CONVERTERS)
        raise ConfigError(f"no converter for the room {room!r}; did you mean {', '.join(close)}?")
    return importlib.import_module(CONVERTERS[room])
