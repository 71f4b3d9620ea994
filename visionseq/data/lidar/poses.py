"""Rigid poses: quaternions (w, x, y, z) and translations as matrices that act on column vectors.

Legend: N poses; a pose is (x, y, z, qw, qx, qy, qz).
"""

import numpy as np
from numpy.typing import ArrayLike

from visionseq.geometry.rotations import rotation_matrices


def pose_matrices(poses: ArrayLike) -> np.ndarray:
    """float64 [..., 4, 4] of poses [..., 7]; a quaternion need not have length 1, but some length."""
    poses = np.asarray(poses, np.float64)
    matrices = np.zeros((*poses.shape[:-1], 4, 4))
    matrices[..., :3, :3] = rotation_matrices(poses[..., 3:])
    matrices[..., :3, 3] = poses[..., :3]
    matrices[..., 3, 3] = 1
    return matrices


def moved(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """float64 [N, 3]: x, y, z of points [N, >= 3] through a pose [4, 4]."""
    return points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
