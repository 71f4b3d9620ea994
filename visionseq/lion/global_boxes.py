"""Boxes of a lidar frame in nuScenes' global frame, and the attributes that its benchmark expects with them."""

import numpy as np
from scipy.spatial.transform import Rotation

MOST_BOXES = 500  # of a frame
MOVING = 0.2  # metres per second
CYCLES, VEHICLES = ("bicycle", "motorcycle"), ("car", "truck", "bus", "trailer", "construction_vehicle")
SLOW = {"pedestrian": "pedestrian.standing", "bus": "vehicle.stopped"}
USUAL = {
    **dict.fromkeys(VEHICLES, "vehicle.parked"),
    **dict.fromkeys(CYCLES, "cycle.without_rider"),
    "pedestrian": "pedestrian.moving",
}


def to_global(boxes: np.ndarray, pose: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes [M, 7 or 9] of the lidar frame, float64, in the global frame to which `pose` [4, 4] leads.

    Fields: `translation` [M, 3], `size` [M, 3] (width, length, height), `rotation` [M, 4] (quaternion w, x, y, z, with
    the tilt of the vehicle), `velocity` [M, 2] (zero where the boxes have none).
    """
    turn, nothing = pose[:3, :3], np.zeros(len(boxes))
    speed = boxes[:, 7:9] if boxes.shape[1] == 9 else np.zeros((len(boxes), 2))
    return {
        "translation": boxes[:, :3] @ turn.T + pose[:3, 3],
        "size": boxes[:, [4, 3, 5]],
        "rotation": _turned(turn, boxes[:, 6]),
        "velocity": (np.column_stack([speed, nothing]) @ turn.T)[:, :2],
    }


def _turned(turn: np.ndarray, headings: np.ndarray) -> np.ndarray:
    """Quaternions [M, 4] (w, x, y, z) of headings [M] about z, followed by a rotation [3, 3]."""
    x, y, z, w = Rotation.from_matrix(turn).as_quat()
    cos, sin = np.cos(headings / 2), np.sin(headings / 2)
    return np.column_stack([w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, w * sin + z * cos])


def attributes_of(names: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """str [M]: the attribute that is usual for a class at its speed (metres per second); "" where a class has none."""
    attributes = []
    for name, speed in zip(names.tolist(), speeds.tolist(), strict=True):
        if speed > MOVING and name in VEHICLES:
            attributes.append("vehicle.moving")
        elif speed > MOVING and name in CYCLES:
            attributes.append("cycle.with_rider")
        elif speed > MOVING:
            attributes.append(USUAL.get(name, ""))
        else:
            attributes.append(SLOW.get(name, USUAL.get(name, "")))
    return np.array(attributes, dtype=np.str_) if attributes else np.zeros(0, "U1")
