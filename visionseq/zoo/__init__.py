"""Models by name: an index of weights with their hashes, downloads that are whole or absent, and `load`."""

import importlib

_HOMES = {
    "load": "visionseq.zoo.loading",
    "load_folder": "visionseq.zoo.loading",
    "load_run": "visionseq.zoo.loading",
    "Index": "visionseq.zoo.index",
    "Entry": "visionseq.zoo.index",
    "read_index": "visionseq.zoo.index",
    "list_models": "visionseq.zoo.index",
    "info": "visionseq.zoo.index",
    "model_folder": "visionseq.zoo.store",
    "fetch_entry": "visionseq.zoo.store",
    "fetch_files": "visionseq.zoo.store",
    "verify": "visionseq.zoo.store",
    "verify_entry": "visionseq.zoo.store",
    "add": "visionseq.zoo.publish",
    "push": "visionseq.zoo.publish",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:  # PEP 562: the index is readable without torch
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
