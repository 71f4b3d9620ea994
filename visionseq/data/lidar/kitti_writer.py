"""Any lidar data set as a folder in KITTI's layout."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import LidarFrames
from visionseq.data.names import path_below
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
    """Write velodyne, calib, label_2 and ImageSets/`split`.txt below `root`.

    Points become x, y, z, intensity, with zeros where a set has no intensity. Boxes are rounded to the two
    decimals of the text. Objects behind the camera have an image box of one pixel. A frame without labels gets no
    label file.

    Args:
        frames: any data set; its names of frames become names of files.
        root: where to write.
        split: name of the list of these frames.
        calibration: of frames without a calibration.
        progress: called with the number of frames done since the last call.
    """
    folder = Path(root) / "training"
    for index in range(len(frames)):
        frame = frames.frame(index)
        camera = frame.calibration or calibration
        with atomic_write(path_below(folder / "velodyne", f"{frame.frame_id}.bin", "frame")) as file:
            file.write(_four_columns(frame.points, frames.features).astype("<f4").tobytes())
        with atomic_write(folder / "calib" / f"{frame.frame_id}.txt", "w") as file:
            file.write(_calibration_text(camera))
        if frame.objects is not None:
            with atomic_write(folder / "label_2" / f"{frame.frame_id}.txt", "w") as file:
                file.write(_label_text(*frame.objects, camera, frame.image_shape or (HEIGHT, WIDTH)))
        progress(1)
    with atomic_write(Path(root) / "ImageSets" / f"{split}.txt", "w") as file:
        file.write("".join(f"{frame_id}\n" for frame_id in frames.frame_ids))


def _four_columns(points: np.ndarray, features: Sequence[str]) -> np.ndarray:
    if "intensity" in features:
        return points[:, [0, 1, 2, list(features).index("intensity")]]
    return np.concatenate([points[:, :3], np.zeros((len(points), 1), points.dtype)], 1)


def _calibration_text(calibration: Calibration) -> str:
    rows = {f"P{i}": calibration.P2 for i in range(4)}
    rows |= {"R0_rect": calibration.R0, "Tr_velo_to_cam": calibration.V2C, "Tr_imu_to_velo": np.eye(3, 4)}
    return "".join(f"{name}: {' '.join(f'{v:.12e}' for v in matrix.ravel())}\n" for name, matrix in rows.items()) + "\n"


def _label_text(boxes: np.ndarray, names: np.ndarray, calibration: Calibration, image_shape: tuple[int, int]) -> str:
    if not len(boxes):
        return ""
    boxes = boxes[:, :7].astype(np.float64)
    camera = lidar_to_camera(boxes, calibration)
    camera[:, 6] = limit_period(camera[:, 6], 0.5, 2 * np.pi)
    alpha = limit_period(observation_angle(boxes, camera), 0.5, 2 * np.pi)
    images = image_boxes(camera, calibration, image_shape)
    images[camera[:, 2] < 0.5] = (0, 0, 1, 1)
    lines = []
    for name, angle, image, (x, y, z, length, height, width, ry) in zip(names, alpha, images, camera, strict=True):
        values = (*image, height, width, length, x, y, z, ry)
        lines.append(f"{name} 0.00 0 {angle:.2f} {' '.join(f'{value:.2f}' for value in values)}\n")
    return "".join(lines)
