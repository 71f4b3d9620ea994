"""SiT, scalable interpolant transformers (arXiv 2401.08740): models, losses, ODE and SDE samplers, likelihood.

Loading and sampling need torch alone; the names of training bring lightning in when they are asked for.
"""

from visionseq.lazy import lazy_names

LOADABLE = ("SiT",)  # the classes that a model folder may name: see visionseq.zoo.table
__getattr__, __dir__, __all__ = lazy_names(__name__)
