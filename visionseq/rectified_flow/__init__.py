"""Improved rectified flows (2-rectified flow++, arXiv 2405.20320): teachers, pairs, students, few-step samplers.

Loading and sampling need torch alone; the names of training bring lightning in when they are asked for.
"""

from visionseq.lazy import lazy_names

LOADABLE = ("EDMDenoiser", "EDMVelocity")  # the classes that a model folder may name: see visionseq.zoo.table
__getattr__, __dir__, __all__ = lazy_names(__name__)
