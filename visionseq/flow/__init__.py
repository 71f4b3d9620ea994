"""Common parts of generative rooms: paths, times, solvers, guidance, the base of their tasks, the sampling pipeline."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
