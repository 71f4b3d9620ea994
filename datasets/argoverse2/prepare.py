"""The ground-truth database of Argoverse 2: python datasets/argoverse2/prepare.py"""

from pathlib import Path

from visionseq.data.lidar import Argoverse2
from visionseq.data.lidar.prepare import write_database
from visionseq.data.prepare import run_script
from visionseq.geometry import NEAREST


def prepare(root: Path = Path("datasets/argoverse2"), split: str = "train") -> str:
    """Read the sweeps of a split, and write `root`/database for ground-truth sampling.

    Args:
        root: Folder with train/ and val/, see the README beside this file.
        split: Folder of the logs to cut objects out of.
    """
    return write_database(Argoverse2(str(root), split), root / "database", NEAREST)


if __name__ == "__main__":
    run_script(prepare)
