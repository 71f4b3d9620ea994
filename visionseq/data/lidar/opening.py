"""Which lidar data set a folder is, by its layout."""

from collections.abc import Callable, Sequence
from pathlib import Path

from visionseq.data import lidar
from visionseq.data.lidar.frame import LidarFrames
from visionseq.data.point_files import EXTENSIONS, find_point_files, read_points
from visionseq.data.point_files.bin_columns import likely_columns
from visionseq.errors import ConfigError, DataError

WORLD = "lidar_world"
PARTS = ("train", "val", "test")  # folders below a data set's root, where it has them
POINT_FOLDERS = ("", "velodyne", "lidar_roof", "LIDAR_TOP", "samples/LIDAR_TOP", "sensors/lidar")
LAYOUTS = (
    "KITTI's training/velodyne and calib, nuScenes' v1.0-* tables, Waymo's SEGMENT/0000.npy, "
    "Argoverse 2's LOG/sensors/lidar, ONCE's data/SEQ/lidar_roof, or points/ and labels/"
)


def open_frames(name: str, split: str | None = None) -> LidarFrames | None:
    """The frames of a folder, or of the built-in `lidar_world`; None where it has none of the known layouts.

    Frames whose label files are missing are counted in the log, and have no labels.

    Args:
        name: folder of KITTI (or its training/), nuScenes, Waymo (prepared), Argoverse 2, ONCE or your own data
            (points/ and labels/); of Waymo and Argoverse 2 also the folder of one split.
        split: name of a list of frames or scenes, or of a folder; None: all frames, of Waymo and Argoverse 2 those of
            the first of train, val and test. `ConfigError` names the existing splits.
    """
    if name == WORLD:
        from visionseq.data.lidar_world import LidarWorld

        _check_split(name, split, [])
        return LidarWorld(20)
    root = Path(name)
    layouts: tuple[Callable[[Path, str | None], LidarFrames | None], ...]
    layouts = (_kitti, _nuscenes, _once, _in_parts, _custom)
    return next((frames for layout in layouts if (frames := layout(root, split)) is not None), None)


def refuse_loose_points(name: str) -> None:
    """`DataError` where a name is a point file, or a folder of them that `open_frames` does not know."""
    root = Path(name)
    files = (path for folder in POINT_FOLDERS for path in (root / folder).glob("*"))
    if (root.is_file() and root.suffix.lower() in EXTENSIONS) or any(map(_is_point_file, files)):
        raise DataError(f"{name}: point files without a known layout (expected a folder with {LAYOUTS})")


def _is_point_file(path: Path) -> bool:
    """By its name; other arrays than Waymo's frames lie beside pictures as well."""
    return path.suffix.lower() in EXTENSIONS and (path.suffix.lower() != ".npy" or path.stem.isdecimal())


def _kitti(root: Path, split: str | None) -> LidarFrames | None:
    if (root / "velodyne").is_dir() and (root / "calib").is_dir():
        _check_split(root, split, _lists(root.parent / "ImageSets"))
        return lidar.Kitti(str(root.parent), split, root.name, fov_points_only=False, missing_labels="report")
    if (root / "training" / "velodyne").is_dir():
        _check_split(root, split, _lists(root / "ImageSets"))
        return lidar.Kitti(str(root), split, fov_points_only=False, missing_labels="report")
    return None


def _nuscenes(root: Path, split: str | None) -> LidarFrames | None:
    tables = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
    if not tables:
        return None
    _check_split(root, split, _lists(root))
    scenes = None if split is None else str(root / f"{split}.txt")
    return lidar.NuScenes(str(root), tables[0], scenes, sweeps=1, min_points=0, missing_labels="report")


def _once(root: Path, split: str | None) -> LidarFrames | None:
    return lidar.Once(str(root), split) if any(root.glob("data/*/lidar_roof")) else None


def _in_parts(root: Path, split: str | None) -> LidarFrames | None:
    """Argoverse 2 or Waymo, whose splits are folders; `root` may be one of them."""
    for data_set, pattern in ((lidar.Argoverse2, "*/sensors/lidar/*.feather"), (lidar.Waymo, "[!.]*/0000.npy")):
        parts = dict.fromkeys(("", *PARTS, split or ""))
        existing = [part for part in parts if any((root / part).glob(pattern))]
        if existing:
            folder = str(root / _part_of(root, split, existing))
            if data_set is lidar.Waymo:
                return lidar.Waymo(folder, missing_labels="report")
            return lidar.Argoverse2(folder, "", missing_labels="report")
    return None


def _part_of(root: Path, split: str | None, existing: list[str]) -> str:
    if existing[0]:
        _check_split(root, split, existing)
        return split or existing[0]
    if split not in (None, root.name):
        raise ConfigError(f"{root}: no split {split}, the frames of this folder are one split")
    return ""


def _custom(root: Path, split: str | None) -> LidarFrames | None:
    if not (root / "points").is_dir():
        return None
    _check_split(root, split, _lists(root / "ImageSets"))
    features, columns = _columns_of(root / "points")
    return lidar.CustomFrames(str(root), (), split, features, columns, missing_labels="report")


def _lists(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.txt"))


def _check_split(where: str | Path, split: str | None, existing: Sequence[str]) -> None:
    if split is not None and split not in existing:
        known = f"expected one of {', '.join(existing)}" if existing else "it has none"
        raise ConfigError(f"{where}: no split {split}, {known}")


def _columns_of(folder: Path) -> tuple[tuple[str, ...], int | None]:
    """The columns of the first point file that can be read; for a .bin also their number, as its values suggest."""
    for path in find_point_files(folder):
        try:
            columns = next(iter(likely_columns(path)), None) if path.suffix.lower() == ".bin" else None
            return read_points(path, columns).columns, columns
        except (DataError, OSError):
            continue
    return ("x", "y", "z"), None
