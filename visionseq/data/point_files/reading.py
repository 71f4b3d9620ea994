"""One function for every format of point files; the ending of the name decides."""

import os
from collections.abc import Callable, Iterable
from glob import glob
from pathlib import Path

from visionseq.data.point_files.arrays import read_npy
from visionseq.data.point_files.bin_columns import read_bin
from visionseq.data.point_files.cloud import PointCloud
from visionseq.data.point_files.feather import read_feather
from visionseq.data.point_files.las import read_las
from visionseq.data.point_files.pcd import read_pcd
from visionseq.data.point_files.ply import read_ply
from visionseq.errors import DataError
from visionseq.text_files import reason

MAX_BYTES = 1 << 31  # of a file; 2 GB are 134 million points of four floats

_READERS: dict[str, Callable[[Path], PointCloud]] = {
    ".npy": read_npy,
    ".pcd": read_pcd,
    ".ply": read_ply,
    ".las": read_las,
    ".laz": read_las,
    ".feather": read_feather,
}
EXTENSIONS = (".bin", *_READERS)


def read_points(path: str | os.PathLike, columns: int | None = None) -> PointCloud:
    """The points of a file.

    Args:
        path: .bin (little-endian float32 without a header), .npy, .pcd, .ply, .las, .laz or .feather.
        columns: of a .bin file, 3 to 6; None: 5 for the .pcd.bin files of nuScenes, otherwise 4, if neither the size
            of the file nor its values speak for another number.

    Columns have their usual names whatever program wrote them: `scalar_Intensity`, `Intensity`, `i` and `reflectance`
    are `intensity`.

    Raises:
        DataError: the file is missing, of another kind, damaged, or has no x, y, z; the message names it.
    """
    path = Path(path)
    if path.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{path}: expected a name that ends in {', '.join(EXTENSIONS)}")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size} bytes, expected at most {MAX_BYTES}")
        if path.suffix.lower() == ".bin":
            return read_bin(path, columns)
        return _READERS[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(f"{path}: not readable: {reason(error)}") from error


def find_point_files(pattern: str | os.PathLike) -> list[Path]:
    """The point files that a name stands for: a file, all of a folder, or a glob pattern; sorted.

    Raises `DataError` where no file matches.
    """
    path = Path(pattern)
    if path.is_dir():
        files = _point_files(path.iterdir())
    elif path.exists():
        files = [path]
    else:
        files = _point_files(map(Path, glob(str(pattern), recursive=True)))
    if not files:
        raise DataError(f"{pattern}: no point files (expected a file, a folder or a pattern; {', '.join(EXTENSIONS)})")
    return sorted(files)


def _point_files(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in EXTENSIONS and path.is_file()]
