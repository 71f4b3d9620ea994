"""Which lidar data set a folder is, told from its layout."""

from pathlib import Path

from visionseq.data.lidar.frame import LidarFrames

WORLD = "lidar_world"


def open_frames(name: str, split: str | None = None) -> LidarFrames | None:
    """The frames of a folder, or of the built-in `lidar_world`; None where it is none of the known layouts.

    Args:
        name: folder of KITTI (or its training/), nuScenes, Waymo (prepared), Argoverse 2, ONCE or of one's own
            (points/ and labels/).
        split: name of a list of frames where the layout has lists; None: everything that is there.
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
    if any(root.glob("*/sensors/lidar/*.feather")):
        return lidar.Argoverse2(name, "")
    if any(root.glob("*/0000.npy")):
        return lidar.Waymo(name)
    if (root / "points").is_dir():
        return lidar.CustomFrames(name, (), split, features=("x", "y", "z"))
    return None
