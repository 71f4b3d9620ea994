"""BFM: Blockwise Flow Matching with semantic feature guidance and feature residual approximation (arXiv 2510.21167)."""

from visionseq.lazy import lazy_names

LOADABLE = ("BFM",)  # what a model folder may name: see visionseq.zoo.table
__getattr__, __dir__, __all__ = lazy_names(__name__)
