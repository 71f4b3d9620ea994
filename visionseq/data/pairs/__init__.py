"""Reflow pairs on disk: the official zip layout, the same as a folder, and safetensors shards."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
