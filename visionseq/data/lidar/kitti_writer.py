"""Any lidar data set as a folder in KITTI's layout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import LidarFrames
from visionseq.files import atomic_write
from visionseq.geometry import Calibration, image_boxes, lidar_to_camera, limit_period, observation_angle

WIDTH, HEIGHT = 1242, 375
CAMERA = Calibration(  # a camera in the lidar's place, that looks ahead
    P2=np.array([[721.5, 0, 609.6, 0], [0, 721.5, 172.9, 0], [0, 0, 1, 0]]),
    R0=np.eye(3),
    V2C=np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]),
)


def write_kitti(
    frames: LidarFrames,
    root: str | Path,
    split: str = "train",
    calibration: Calibration = CAMERA,
    progress: Callable[[int], object] = lambda frames: None,
) -> None:
    """Write velodyne, calib, label_2 and ImageSets/`split`.txt below `root`; columns are x, y, z, intensity.

    Boxes lose what the text's two decimals cannot hold. Objects behind the camera have an image box of one pixel.
    """
    root = Path(root)
    for index in range(len(frames)):
        frame = frames.frame(index)
        folder = root / "training"
        with atomic_write(folder / "velodyne" / f"{frame.frame_id}.bin") as file:
            file.write(np.ascontiguousarray(frame.points[:, :4], "<f4").tobytes())
        with atomic_write(folder / "calib" / f"{frame.frame_id}.txt", "w") as file:
            file.write(_calibration_text(calibration))
        with atomic_write(folder / "label_2" / f"{frame.frame_id}.txt", "w") as file:
            file.write(_label_text(frame.boxes, frame.names, calibration))
        progress(1)
    with atomic_write(root / "ImageSets" / f"{split}.txt", "w") as file:
        file.write("".join(f"{frame_id}\n" for frame_id in frames.frame_ids))


def _calibration_text(calibration: Calibration) -> str:
    rows = {f"P{i}": calibration.P2 for i in range(4)}
    rows |= {"R0_rect": calibration.R0, "Tr_velo_to_cam": calibration.V2C, "Tr_imu_to_velo": np.eye(3, 4)}
    return "".join(f"{name}: {' '.join(f'{v:.12e}' for v in matrix.ravel())}\n" for name, matrix in rows.items()) + "\n"


def _label_text(boxes: np.ndarray | None, names: np.ndarray | None, calibration: Calibration) -> str:
    if boxes is None or not len(boxes):
        return ""
    boxes = boxes[:, :7].astype(np.float64)
    camera = lidar_to_camera(boxes, calibration)
    camera[:, 6] = limit_period(camera[:, 6], 0.5, 2 * np.pi)
    alpha = limit_period(observation_angle(boxes, camera), 0.5, 2 * np.pi)
    images = image_boxes(camera, calibration, (HEIGHT, WIDTH))
    images[camera[:, 2] < 0.5] = (0, 0, 1, 1)
    lines = []
    for name, angle, image, (x, y, z, length, height, width, ry) in zip(names, alpha, images, camera, strict=True):
        values = (*image, height, width, length, x, y, z, ry)
        lines.append(f"{name} 0.00 0 {angle:.2f} {' '.join(f'{value:.2f}' for value in values)}\n")
    return "".join(lines)
