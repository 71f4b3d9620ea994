"""Token mixers on the scan kernels, behind one protocol.

    y_BTD, state = mixer(x_BTD, state=None, cu_seqlens=None, reverse=False)
    y_BD, state = mixer.step(x_BD, state=None)

A mixer is imported and constructed, or named by its `class_path` in a configuration; there is no registry.
"""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
