"""Guidance: how the predictions with and without a class become one, and the field that is made of a model.

A rule is called as rule(conditional, unconditional, t). It may be active in a part of the time only, and may keep a
memory, which is cleared before every trajectory. No solver knows of guidance.
"""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
