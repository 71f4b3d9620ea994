"""Pictures without a display: grids of images, plots, point clouds from above, in the camera, and as a 3D page."""

from visionseq.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
