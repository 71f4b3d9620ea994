"""Scores of generated images, detection metrics, and what they are measured with."""

from visionseq.lazy import lazy_names

LOADABLE = ("FeatureCNN",)  # what a model folder may name: see visionseq.zoo.table
__getattr__, __dir__, __all__ = lazy_names(__name__)
