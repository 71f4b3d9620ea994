"""Boxes in point clouds: frames, points inside them, exact rotated overlap, non-maximum suppression."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
