"""The data pipeline: map-style data sets, typed batches, one sampler whose whole state is an integer."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
