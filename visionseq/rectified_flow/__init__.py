"""Improved rectified flows (2-rectified flow++, arXiv 2405.20320): teachers, pairs, students, few-step samplers.

Loading and sampling need torch alone; the names of training bring lightning in when they are asked for.
"""

from importlib import import_module
from typing import Any

LOADABLE = ("EDMDenoiser", "EDMVelocity")  # what a model folder may name: see visionseq.zoo.table
_HOMES = {
    "EDMDenoiser": "model",
    "EDMVelocity": "model",
    "build_network": "model",
    "PRESETS": "presets",
    "from_official": "convert",
    "to_official": "convert",
    "sample": "sampling",
    "edm_sample": "teacher",
    "invert": "inversion",
    "interpolate": "inversion",
    "reconstruct": "inversion",
    "translate": "inversion",
    "RectifiedFlowTask": "task",
    "ReflowTask": "task",
    "TeacherTask": "task",
    "ReflowPairs": "pairs",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
