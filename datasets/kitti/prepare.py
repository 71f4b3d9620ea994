"""The ground-truth database of KITTI's training frames: python datasets/kitti/prepare.py"""

from pathlib import Path

from visionseq.data.lidar import Kitti
from visionseq.data.lidar.prepare import write_database
from visionseq.data.prepare import run_script


def prepare(root: Path = Path("datasets/kitti"), split: str = "train") -> str:
    """Check the frames of a split by reading them, and write `root`/database for ground-truth sampling.

    Args:
        root: Folder with training/ and ImageSets/, see the README beside this file.
        split: List in ImageSets/ whose objects to cut out.
    """
    return write_database(Kitti(str(root), split, fov_points_only=False), root / "database")


if __name__ == "__main__":
    run_script(prepare)
