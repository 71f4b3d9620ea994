"""The ground-truth database of Waymo's prepared segments: python datasets/waymo/prepare.py"""

from pathlib import Path

from visionseq.data.lidar import Waymo
from visionseq.data.lidar.prepare import write_database
from visionseq.data.prepare import run_script
from visionseq.geometry import NEAREST

EVERY = {"Vehicle": 4, "Pedestrian": 2}  # common classes from every so many-th frame alone


def prepare(root: Path = Path("datasets/waymo"), split: str = "train") -> str:
    """Read the frames of prepared segments, and write `root`/database for ground-truth sampling.

    Args:
        root: Folder with train/ and val/ in the layout of the README beside this file.
        split: Folder of the segments to cut objects out of.
    """
    return write_database(Waymo(str(root / split)), root / "database", NEAREST, EVERY)


if __name__ == "__main__":
    run_script(prepare)
