"""Boxes as other projects write them, to and from ours (x, y, z of the centre, dx, dy, dz, heading).

| project | columns | z | angle |
|---|---|---|---|
| OpenPCDet | the same as ours | centre | counter-clockwise from +x |
| mmdetection3d since 1.0, lidar boxes | x, y, z, x_size, y_size, z_size, yaw | bottom | the same |
| mmdetection3d before 1.0, lidar boxes | `fakelidar_to_lidar` | bottom | clockwise from -y |
| nuScenes devkit | x, y, z, w, l, h, quaternion (w, x, y, z) | centre | a rotation of any kind |

No function changes the frame: nuScenes' boxes stay in theirs (lidar, ego or global). The headings of results lie in
[-pi, pi). Legend: N boxes; further columns pass through in mmdetection3d's two functions.
"""

import numpy as np

from visionseq.errors import ConfigError
from visionseq.geometry.boxes import as_boxes, limit_period
from visionseq.geometry.rotations import headings_of, upright_quaternions


def mmdet3d_to_lidar(boxes: np.ndarray) -> np.ndarray:
    """Lidar boxes of mmdetection3d >= 1.0 [N, >= 7] as ours: z lifted by half a height."""
    boxes = as_boxes(boxes).copy()
    boxes[:, 2] += boxes[:, 5] / 2
    boxes[:, 6] = limit_period(boxes[:, 6])
    return boxes


def lidar_to_mmdet3d(boxes: np.ndarray) -> np.ndarray:
    """Our boxes [N, >= 7] as the lidar boxes of mmdetection3d >= 1.0."""
    boxes = as_boxes(boxes).copy()
    boxes[:, 2] -= boxes[:, 5] / 2
    boxes[:, 6] = limit_period(boxes[:, 6])
    return boxes


def nuscenes_to_lidar(boxes: np.ndarray) -> np.ndarray:
    """Boxes (x, y, z, w, l, h, qw, qx, qy, qz) [N, 10] as ours [N, 7]; of a rotation only the heading is kept.

    A quaternion need not have length 1. `ConfigError` for another shape or a quaternion without length.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 10:
        raise ConfigError(f"boxes of shape {boxes.shape}, expected [N, 10]: x, y, z, w, l, h and a quaternion")
    boxes = as_boxes(boxes)
    headings = headings_of(boxes[:, 6:])
    wrong = np.flatnonzero(~np.isfinite(headings))
    if len(wrong):
        raise ConfigError(f"box {wrong[0]}: the quaternion {boxes[wrong[0], 6:].tolist()} is no rotation")
    return np.column_stack([boxes[:, :3], boxes[:, 4], boxes[:, 3], boxes[:, 5], limit_period(headings)])


def lidar_to_nuscenes(boxes: np.ndarray) -> np.ndarray:
    """Our boxes [N, >= 7] as (x, y, z, w, l, h, qw, qx, qy, qz) [N, 10], upright."""
    boxes = as_boxes(boxes)
    quaternions = upright_quaternions(boxes[:, 6])
    return np.column_stack([boxes[:, :3], boxes[:, 4], boxes[:, 3], boxes[:, 5], quaternions])
