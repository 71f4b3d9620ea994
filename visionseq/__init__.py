"""visionseq: one recurrence, many senses."""

from visionseq.lazy import lazy_names

__version__ = "0.1.0"
__getattr__, __dir__, _names = lazy_names(__name__)
__all__ = ["__version__", *_names]
