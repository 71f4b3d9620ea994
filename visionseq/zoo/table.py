"""The classes that a model folder or checkpoint may name. Anything else is refused.

A config.json names a room and a class. The rooms stand here, and each says in its own `LOADABLE` which of its classes
may be built from a file. Rooms stand above the zoo, so they are imported on request; no file names a Python path.
"""

import importlib
from difflib import get_close_matches
from typing import TYPE_CHECKING

from visionseq.errors import CheckpointError

if TYPE_CHECKING:
    from visionseq.saving.pretrained import PretrainedModel

ROOMS = ("arflow", "bfm", "lion", "metrics", "rectified_flow", "sit")  # a new room adds its name


def loadable_models() -> list[tuple[str, str]]:
    """Every room and class that a file may name."""
    return [(room, model) for room in ROOMS for model in _classes_of(room)]


def model_class(room: str, model: str, source: object) -> "type[PretrainedModel]":
    """The class of a room by name; an unknown one raises `CheckpointError` with the nearest known ones."""
    if room not in ROOMS or model not in _classes_of(room):
        raise CheckpointError(
            f"{source} names the model {room}/{model}, which visionseq does not know{_nearest(room, model)}"
        )
    return getattr(importlib.import_module(f"visionseq.{room}"), model)


def _classes_of(room: str) -> tuple[str, ...]:
    return importlib.import_module(f"visionseq.{room}").LOADABLE


def _nearest(room: str, model: str) -> str:
    names = [f"{known_room}/{known_model}" for known_room, known_model in loadable_models()]
    close = get_close_matches(f"{room}/{model}", names, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close or names)}"
