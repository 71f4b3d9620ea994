"""Rigid poses: quaternions (w, x, y, z) and translations as matrices that act on column vectors.

Legend: N poses; a pose is (x, y, z, qw, qx, qy, qz).
"""

import numpy as np
from numpy.typing import ArrayLike


def pose_matrices(poses: ArrayLike) -> np.ndarray:
    """float64 [..., 4, 4] of poses [..., 7]; a quaternion need not have length 1, but some length."""
    poses = np.asarray(poses, np.float64)
    matrices = np.zeros((*poses.shape[:-1], 4, 4))
    matrices[..., :3, :3] = rotation_matrices(poses[..., 3:])
    matrices[..., :3, 3] = poses[..., :3]
    matrices[..., 3, 3] = 1
    return matrices


def rotation_matrices(quaternions: ArrayLike) -> np.ndarray:
    """float64 [..., 3, 3] of quaternions [..., 4]."""
    quaternions = np.asarray(quaternions, np.float64)
    w, x, y, z = np.moveaxis(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def moved(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """float64 [N, 3]: x, y, z of points [N, >= 3] through a pose [4, 4]."""
    return points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
