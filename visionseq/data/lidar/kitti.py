"""KITTI's object benchmark (www.cvlibs.net/datasets/kitti), read from its own files."""

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np

from visionseq.data.lidar.bin_rows import read_bin_rows
from visionseq.data.lidar.folders import listed_frames, require
from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar.kitti_labels import DONT_CARE, lidar_boxes, read_labels
from visionseq.data.lidar.missing_labels import MissingLabels, check_labels
from visionseq.data.lidar.preparation import points_in_view
from visionseq.errors import ConfigError, DataError
from visionseq.geometry import HULL, Calibration, count_points
from visionseq.text_files import numbers_of, read_text

_log = logging.getLogger("visionseq.data")


class Kitti:
    """Frames of KITTI: `root`/training/{velodyne, calib, label_2, image_2[, planes]} and `root`/ImageSets.

    Args:
        root: folder of the data set.
        split: name of a list in ImageSets (train, val, trainval, test); None: all frames of the folder.
        folder: training, or testing, whose labels KITTI keeps to itself.
        fov_points_only: keep the points that the camera sees, as training on KITTI does; without a picture, whose
            size it takes, all points stay, which is logged once.
        min_points: count the points of each object (hull, points in view), and leave out those with fewer.
        missing_labels: refuse frames of training/ whose label file is missing, or report them and go on.
    """

    class_names = ("Car", "Pedestrian", "Cyclist", "Van", "Truck", "Person_sitting", "Tram", "Misc")
    features = ("x", "y", "z", "intensity")

    def __init__(
        self,
        root: str,
        split: str | None = None,
        folder: str = "training",
        fov_points_only: bool = True,
        min_points: int = 0,
        missing_labels: MissingLabels = "refuse",
    ):
        self.root, self.folder = Path(root), Path(root) / folder
        self.fov_points_only, self.min_points = fov_points_only, min_points
        require(self.folder, "kitti")
        if split is None:
            self.frame_ids = sorted(path.stem for path in (self.folder / "velodyne").glob("*.bin"))
        else:
            names = self.root / "ImageSets" / f"{split}.txt"
            require(names, "kitti")
            self.frame_ids = listed_frames(names, self.folder / "velodyne")
        if not self.frame_ids:
            raise ConfigError(f"{self.folder}: no frames in velodyne/; see datasets/kitti/README.md")
        if folder != "testing":
            existing = set((self.folder / "label_2").glob("*.txt"))
            missing = [path for name in self.frame_ids if (path := self._labels_of(name)) not in existing]
            check_labels(missing, len(self.frame_ids), missing_labels)

    def __len__(self) -> int:
        return len(self.frame_ids)

    def frame(self, index: int) -> LidarFrame:
        name = self.frame_ids[index]
        frame = self.labels(index)
        points = read_bin_rows(self.folder / "velodyne" / f"{name}.bin", 4)
        if self.fov_points_only or self.min_points:
            seen = self._in_view(frame, points)
            if self.min_points and frame.boxes is not None:
                frame.num_points = count_points(seen, frame.boxes.astype(np.float64), HULL)
                _keep_objects(frame, frame.num_points >= self.min_points)
            points = seen if self.fov_points_only else points
        frame.points = points
        return frame

    def labels(self, index: int) -> LidarFrame:
        name = self.frame_ids[index]
        calibration = Calibration.from_file(self.folder / "calib" / f"{name}.txt")
        frame = LidarFrame(
            name,
            np.zeros((0, 4), np.float32),
            calibration=calibration,
            image_shape=_image_shape(self.folder / "image_2", name),
            road_plane=self._road_plane(name),
        )
        path = self._labels_of(name)
        if not path.is_file():
            frame.missing_labels = path
            return frame

        # Regions that KITTI excludes from its evaluation stay among the annotations alone.
        labels = read_labels(path)
        known = labels["name"] != DONT_CARE
        frame.boxes, frame.names = lidar_boxes(labels, calibration)[known], labels["name"][known]
        frame.difficulty, frame.num_points = labels["difficulty"][known], np.full(known.sum(), UNKNOWN)
        frame.annotations = labels
        return frame

    def _labels_of(self, name: str) -> Path:
        return self.folder / "label_2" / f"{name}.txt"

    def _in_view(self, frame: LidarFrame, points: np.ndarray) -> np.ndarray:
        if frame.image_shape is None:
            _say_no_picture(self.folder / "image_2")
            return points
        assert frame.calibration is not None  # `labels` reads one for every frame
        return points_in_view(points, frame.calibration, frame.image_shape)

    def _road_plane(self, name: str) -> np.ndarray | None:
        path = self.folder / "planes" / f"{name}.txt"
        if not path.is_file():
            return None
        lines = read_text(path).splitlines()
        if len(lines) < 4:
            raise DataError(f"{path}: {len(lines)} lines, expected a header of three and a plane")
        plane = np.array(numbers_of(path, 4, lines[3].split()))
        if plane.shape != (4,) or not plane[1]:
            raise DataError(f"{path}, line 4: {lines[3]!r}, expected a b c d of a plane that is not upright")
        plane = -plane if plane[1] > 0 else plane
        return plane / np.linalg.norm(plane[:3])


@lru_cache
def _say_no_picture(folder: Path) -> None:
    _log.warning("%s: no pictures, so that points out of the camera's view are kept", folder)


def _keep_objects(frame: LidarFrame, kept: np.ndarray) -> None:
    """Leave the other objects of a labelled frame out; `kept` is a mask [M]."""
    for name in ("boxes", "names", "num_points", "difficulty"):
        setattr(frame, name, getattr(frame, name)[kept])


def _image_shape(folder: Path, name: str) -> tuple[int, int] | None:
    """Height and width, from the picture's header."""
    from PIL import Image

    for ending in (".png", ".jpg"):
        path = folder / f"{name}{ending}"
        if path.is_file():
            try:
                with Image.open(path, formats=("PNG", "JPEG")) as picture:
                    return picture.height, picture.width
            except Exception as error:  # decoders fail in many ways
                raise DataError(f"{path}: not a picture: {error}") from error
    return None
