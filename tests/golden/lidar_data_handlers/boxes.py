"""Box utilities: frames, corners, image boxes, range masks, points in boxes, angles."""

import numpy as np
from golden_vector import GoldenVector
from torch import Tensor

from visionseq import geometry

METRES, PIXELS = 1e-4, 1e-2
ROTATION = 0.7  # radians, as the output's name says


def check_box_ops(vector: GoldenVector) -> None:
    given = {name: value.numpy() for name, value in vector.tensors("in/").items()}
    outputs = _frames(given, vector.config) | _angles(given, vector["out/points_rotated_0p7"])
    outputs |= _masks(given)
    for name, expected in vector.tensors("out/").items():
        tolerance = PIXELS if name.startswith("image_boxes") else METRES
        compare(name, outputs[name], expected, tolerance)


def compare(name: str, found: np.ndarray, expected: Tensor, tolerance: float) -> None:
    """Masks and counts must be equal, floats within the tolerance."""
    assert found.shape == tuple(expected.shape), f"{name}: {found.shape}, expected {tuple(expected.shape)}"
    error = np.abs(found.astype(np.float64) - expected.double().numpy()).max(initial=0)
    assert error <= (tolerance if expected.is_floating_point() else 0), f"{name}: {error:.3e}"


def _frames(given: dict[str, np.ndarray], config: dict) -> dict[str, np.ndarray]:
    boxes = given["boxes_lidar"]
    calibration = geometry.Calibration(given["P2"], given["R0"], given["Tr_velo2cam"])
    camera = geometry.lidar_to_camera(boxes, calibration)
    fake = geometry.lidar_to_fakelidar(boxes)
    return {
        "boxes_camera": camera,
        "boxes_lidar_from_camera": geometry.camera_to_lidar(camera, calibration),
        "boxes_fakelidar": fake,
        "boxes_from_fakelidar": geometry.fakelidar_to_lidar(fake),
        "corners_lidar": geometry.boxes_to_corners(boxes),
        "corners_camera": geometry.camera_corners(camera),
        "image_boxes": geometry.image_boxes(camera, calibration),
        "image_boxes_clipped": geometry.image_boxes(camera, calibration, tuple(config["image_shape"])),
        "alpha_of_prediction": geometry.observation_angle(boxes, camera),
        "enlarged": geometry.enlarge(boxes, config["enlarge"]),
    }


def _angles(given: dict[str, np.ndarray], rotated: Tensor) -> dict[str, np.ndarray]:
    return {
        "limit_period_0_pi": geometry.limit_period(given["angles"], 0, np.pi),
        "limit_period_half_2pi": geometry.limit_period(given["angles"]),
        "points_rotated_0p7": geometry.rotate_z(given["points"][: len(rotated)], ROTATION),
    }


def _masks(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    points, boxes, bounds = given["points"], given["boxes_lidar"], given["range"]
    return {
        "in_hull": geometry.points_in_boxes(points, boxes, geometry.HULL),
        "points_in_boxes_cpu": geometry.points_in_boxes(points, boxes, geometry.DATABASE),
        "points_in_box_augmentor_margin0p1": geometry.points_in_boxes(points, boxes, geometry.LOCAL),
        "points_after_removal": geometry.remove_points_in_boxes(points, boxes),
        "mask_range_center": geometry.boxes_in_range(boxes, bounds),
        "mask_range_corner1": geometry.boxes_in_range(boxes, bounds, min_corners=1),
        "mask_range_corner4": geometry.boxes_in_range(boxes, bounds, min_corners=4),
    }


HANDLERS = {"box_ops": check_box_ops}
