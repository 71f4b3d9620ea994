"""Which lidar data set a folder is, told from its layout."""

from pathlib import Path

from visionseq.data.lidar.frame import LidarFrames
from visionseq.data.point_files import find_point_files, read_points
from visionseq.errors import DataError

WORLD = "lidar_world"
PARTS = ("train", "val", "test")  # folders below a data set's root, where it has them
BIN_COLUMNS = (4, 5, 6, 3)  # the more usual first


def open_frames(name: str, split: str | None = None) -> LidarFrames | None:
    """The frames of a folder, or of the built-in `lidar_world`; None where it is none of the known layouts.

    Args:
        name: folder of KITTI (or its training/), nuScenes, Waymo (prepared), Argoverse 2, ONCE or of one's own
            (points/ and labels/); of Waymo and Argoverse 2 also the folder of one split.
        split: name of a list of frames or of a folder, where the layout has them; None: everything that is there, of
            Waymo and Argoverse 2 the first of train, val and test.
    """
    from visionseq.data import lidar

    if name == WORLD:
        from visionseq.data.lidar_world import LidarWorld

        return LidarWorld(20)
    root = Path(name)
    if (root / "velodyne").is_dir() and (root / "calib").is_dir():
        return lidar.Kitti(str(root.parent), None, root.name, fov_points_only=False)
    if (root / "training" / "velodyne").is_dir():
        return lidar.Kitti(name, split, fov_points_only=False)
    for tables in sorted(root.glob("v1.0-*")):
        return lidar.NuScenes(name, tables.name, sweeps=1, min_points=0)
    if any(root.glob("data/*/lidar_roof")):
        return lidar.Once(name, split)
    for part in ("", *((split,) if split else PARTS)):
        if any((root / part).glob("*/sensors/lidar/*.feather")):
            return lidar.Argoverse2(name, part)
        if any((root / part).glob("*/0000.npy")):
            return lidar.Waymo(str(root / part))
    if (root / "points").is_dir():
        features, columns = _columns_of(root / "points")
        return lidar.CustomFrames(name, (), split, features, columns)
    return None


def _columns_of(folder: Path) -> tuple[tuple[str, ...], int | None]:
    """The columns of the first point file that can be read; for a .bin also their number, as its size allows."""
    for path in find_point_files(folder):
        for columns in BIN_COLUMNS if path.suffix.lower() == ".bin" else (None,):
            try:
                return read_points(path, columns).columns, columns
            except DataError:
                continue
    return ("x", "y", "z"), None
