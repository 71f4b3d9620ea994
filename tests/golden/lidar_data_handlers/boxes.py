"""Box utilities: frames, corners, image boxes, range masks, points in boxes, angles."""

import numpy as np
import torch
from golden_vector import GoldenVector
from torch.testing import assert_close

from visionseq import geometry

METRES, PIXELS = 1e-4, 1e-2
ROTATED = "points_rotated_"


def check_box_ops(vector: GoldenVector) -> None:
    inputs = {name: value.numpy() for name, value in vector.tensors("in/").items()}
    outputs = _frames(inputs, vector.config) | _angles(vector, inputs) | _masks(inputs)
    for name in vector.names("out/"):
        compare(vector, name, outputs[name], PIXELS if name.startswith("image_boxes") else METRES)


def compare(vector: GoldenVector, name: str, actual: np.ndarray, tolerance: float) -> None:
    """Masks and counts must be equal, floats within the tolerance: absolute, not of the largest value."""
    if f"out/{name}" not in vector:
        return
    expected = vector.expected(f"out/{name}")
    bound = tolerance if expected.is_floating_point() else 0
    assert_close(
        torch.as_tensor(actual).double(), expected.double(), rtol=0, atol=bound, msg=lambda text: f"{name}: {text}"
    )


def _frames(inputs: dict[str, np.ndarray], config: dict) -> dict[str, np.ndarray]:
    boxes = inputs["boxes_lidar"]
    calibration = geometry.Calibration(inputs["P2"], inputs["R0"], inputs["Tr_velo2cam"])
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


def _angles(vector: GoldenVector, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rotated = [name for name in vector.names("out/") if name.startswith(ROTATED)]
    return {
        "limit_period_0_pi": geometry.limit_period(inputs["angles"], 0, np.pi),
        "limit_period_half_2pi": geometry.limit_period(inputs["angles"]),
        **{name: _rotated(inputs["points"], name, len(vector[f"out/{name}"])) for name in rotated},
    }


def _rotated(points: np.ndarray, name: str, rows: int) -> np.ndarray:
    """The first points, turned by the radians in the output's name."""
    return geometry.rotate_z(points[:rows], float(name.removeprefix(ROTATED).replace("p", ".")))


def _masks(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    points, boxes, bounds = inputs["points"], inputs["boxes_lidar"], inputs["range"]
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
