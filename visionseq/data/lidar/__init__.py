"""Lidar detection data: frames of point clouds with boxes, from recordings or from a simulated world.

Names load what they need when they are first used (PEP 562).
"""

import importlib

_HOMES = {
    "Argoverse2": "visionseq.data.lidar.argoverse2",
    "CustomFrames": "visionseq.data.lidar.custom",
    "GroundTruthSampling": "visionseq.data.lidar.gt_sampling",
    "Kitti": "visionseq.data.lidar.kitti",
    "LidarFrame": "visionseq.data.lidar.frame",
    "LidarFrames": "visionseq.data.lidar.frame",
    "NuScenes": "visionseq.data.lidar.nuscenes",
    "Once": "visionseq.data.lidar.once",
    "PointPreparation": "visionseq.data.lidar.preparation",
    "RandomFlip": "visionseq.data.lidar.augment",
    "RandomRotation": "visionseq.data.lidar.augment",
    "RandomScaling": "visionseq.data.lidar.augment",
    "RandomTranslation": "visionseq.data.lidar.augment",
    "Waymo": "visionseq.data.lidar.waymo",
    "build_database": "visionseq.data.lidar.database",
    "write_kitti": "visionseq.data.lidar.kitti_writer",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
