"""LION: 3D detection in point clouds with linear group recurrent networks (arXiv 2407.18232)."""

from visionseq.lazy import lazy_names

LOADABLE = ("LionDetector",)  # what a model folder may name: see visionseq.zoo.table
__getattr__, __dir__, __all__ = lazy_names(__name__)
