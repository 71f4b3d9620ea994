"""LION: 3D detection in point clouds with linear group recurrent networks (arXiv 2407.18232).

Names load what they need when they are first used (PEP 562).
"""

import importlib

LOADABLE = ("LionDetector",)  # what a model folder may name: see visionseq.zoo.table
_HOMES = {
    "Argoverse2Metric": "visionseq.lion.evaluation",
    "KittiMetric": "visionseq.lion.evaluation",
    "NuScenesMetric": "visionseq.lion.evaluation",
    "OnceMetric": "visionseq.lion.evaluation",
    "WaymoMetric": "visionseq.lion.evaluation",
    "Argoverse2Submission": "visionseq.lion.submissions",
    "KittiSubmission": "visionseq.lion.submissions",
    "NuScenesSubmission": "visionseq.lion.submissions",
    "WaymoSubmission": "visionseq.lion.submissions",
    "Detections": "visionseq.lion.detections",
    "FrameInput": "visionseq.lion.inference",
    "LION3DBackboneOneStride": "visionseq.lion.backbone",
    "LION3DBackboneOneStride_Sparse": "visionseq.lion.backbone",
    "LIONBlock": "visionseq.lion.block",
    "LIONLayer": "visionseq.lion.layer",
    "LionDetector": "visionseq.lion.model",
    "LionTask": "visionseq.lion.task",
    "detect_frame": "visionseq.lion.inference",
    "load_detector": "visionseq.lion.inference",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "LionTask" or name.endswith("Metric"):
        from visionseq.errors import import_extra

        import_extra("lightning", "train")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
