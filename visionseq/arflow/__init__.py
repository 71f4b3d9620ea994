"""ARFlow (arXiv 2501.16085): flows that see the images before them in a sequence, with hybrid linear attention."""

from visionseq.lazy import lazy_names

LOADABLE = ("ARFlow",)  # the classes that a model folder may name: see visionseq.zoo.table
__getattr__, __dir__, __all__ = lazy_names(__name__)
