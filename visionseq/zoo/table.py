"""The classes that a model folder or checkpoint may name, and where each lives. Anything else is refused.

Rooms stand above the zoo, so their modules are named here as strings and imported on request.
"""

import importlib
from difflib import get_close_matches
from typing import TYPE_CHECKING

from visionseq.errors import CheckpointError

if TYPE_CHECKING:
    from visionseq.saving.pretrained import PretrainedModel

MODELS = {
    ("rectified_flow", "EDMDenoiser"): "visionseq.rectified_flow.model",
    ("rectified_flow", "EDMVelocity"): "visionseq.rectified_flow.model",
    ("lion", "LionDetector"): "visionseq.lion.model",
    ("metrics", "FeatureCNN"): "visionseq.metrics.features",
}


def model_class(room: str, model: str, source: object) -> "type[PretrainedModel]":
    """The class of a room by name; an unknown one raises `CheckpointError` with the nearest known ones."""
    try:
        module = MODELS[room, model]
    except KeyError:
        raise CheckpointError(
            f"{source} names the model {room}/{model}, which visionseq does not know{_nearest(room, model)}"
        ) from None
    return getattr(importlib.import_module(module), model)


def _nearest(room: str, model: str) -> str:
    names = [f"{known_room}/{known_model}" for known_room, known_model in MODELS]
    close = get_close_matches(f"{room}/{model}", names, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close or names)}"
