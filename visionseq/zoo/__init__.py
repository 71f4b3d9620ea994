"""Models by name: an index of weights with their hashes, downloads that are whole or absent, and `load`."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
