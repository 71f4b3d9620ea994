"""Ratio-aware guidance (RAAG, arXiv 2508.03442) in diffusers: a drop-in for pipelines, a guider for modular ones."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
