"""Boxes in point clouds: frames, points inside them, exact rotated overlap, non-maximum suppression.

Names load what they need when they are first used (PEP 562).
"""

import importlib

_HOMES = {
    "Calibration": "visionseq.geometry.kitti_calibration",
    "DATABASE": "visionseq.geometry.point_tests",
    "HULL": "visionseq.geometry.point_tests",
    "LOCAL": "visionseq.geometry.point_tests",
    "NEAREST": "visionseq.geometry.point_tests",
    "PointTest": "visionseq.geometry.point_tests",
    "bev_intersection": "visionseq.geometry.overlap",
    "bev_iou": "visionseq.geometry.overlap",
    "boxes_in_range": "visionseq.geometry.boxes",
    "boxes_to_corners": "visionseq.geometry.boxes",
    "camera_corners": "visionseq.geometry.camera_boxes",
    "camera_to_lidar": "visionseq.geometry.camera_boxes",
    "count_points": "visionseq.geometry.point_tests",
    "enlarge": "visionseq.geometry.boxes",
    "fakelidar_to_lidar": "visionseq.geometry.camera_boxes",
    "first_box": "visionseq.geometry.point_tests",
    "image_boxes": "visionseq.geometry.camera_boxes",
    "iou3d": "visionseq.geometry.overlap",
    "lidar_to_camera": "visionseq.geometry.camera_boxes",
    "lidar_to_fakelidar": "visionseq.geometry.camera_boxes",
    "lidar_to_mmdet3d": "visionseq.geometry.conventions",
    "lidar_to_nuscenes": "visionseq.geometry.conventions",
    "limit_period": "visionseq.geometry.boxes",
    "mmdet3d_to_lidar": "visionseq.geometry.conventions",
    "multi_class_nms": "visionseq.geometry.suppression",
    "nearest_bev_iou": "visionseq.geometry.overlap",
    "nms": "visionseq.geometry.suppression",
    "nuscenes_to_lidar": "visionseq.geometry.conventions",
    "observation_angle": "visionseq.geometry.camera_boxes",
    "points_in_boxes": "visionseq.geometry.point_tests",
    "points_in_range": "visionseq.geometry.boxes",
    "remove_points_in_boxes": "visionseq.geometry.point_tests",
    "rotate_z": "visionseq.geometry.boxes",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
