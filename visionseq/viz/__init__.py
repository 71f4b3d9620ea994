"""Pictures without a display: grids of images, plots, point clouds from above, in the camera, and as a 3D page.

Names load what they need when they are first used (PEP 562).
"""

import importlib

_HOMES = {
    "DrawnBoxes": "visionseq.viz.boxes",
    "MIN_TILE": "visionseq.viz.images",
    "bar_plot": "visionseq.viz.plots",
    "bev_picture": "visionseq.viz.bev",
    "camera_picture": "visionseq.viz.camera",
    "image_grid": "visionseq.viz.images",
    "labelled_rows": "visionseq.viz.images",
    "line_plot": "visionseq.viz.plots",
    "save_png": "visionseq.viz.images",
    "save_scene": "visionseq.viz.scene",
    "to_pil": "visionseq.viz.images",
    "to_uint8": "visionseq.viz.images",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
