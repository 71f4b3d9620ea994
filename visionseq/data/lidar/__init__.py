"""Lidar detection data: frames of point clouds with boxes, from recordings or from a simulated world."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
