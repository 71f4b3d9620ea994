"""Reflow pairs on disk: the official zip layout, the same as a folder, and safetensors shards.

Names load what they need when they are first used (PEP 562).
"""

import importlib

_HOMES = {
    "PairDataset": "visionseq.data.pairs.dataset",
    "open_pairs": "visionseq.data.pairs.opening",
    "open_pair_writer": "visionseq.data.pairs.opening",
    "PairShards": "visionseq.data.pairs.shards",
    "PairShardWriter": "visionseq.data.pairs.shards",
    "PairZip": "visionseq.data.pairs.zip_layout",
    "PairZipWriter": "visionseq.data.pairs.zip_writer",
    "draw_noise": "visionseq.data.pairs.noise",
    "noise_from_record": "visionseq.data.pairs.noise",
    "official_noise": "visionseq.data.pairs.noise",
    "record_from_state": "visionseq.data.pairs.noise",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
