"""visionseq: one recurrence, many senses. Names load what they need when they are first used (PEP 562)."""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "load": "visionseq.zoo.loading",
    "list_models": "visionseq.zoo.index",
    "pipeline": "visionseq.pipelines",
    "from_official": "visionseq.convert",
    "to_official": "visionseq.convert",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
