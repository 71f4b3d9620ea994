"""The ground-truth database of ONCE: python datasets/once/prepare.py"""

from pathlib import Path

from visionseq.data.lidar import Once
from visionseq.data.lidar.prepare import write_database
from visionseq.data.prepare import run_script


def prepare(root: Path = Path("datasets/once"), split: str = "train") -> str:
    """Read the annotated frames of a split, and write `root`/database for ground-truth sampling.

    Args:
        root: Folder with data/, see the README beside this file.
        split: train or val.
    """
    return write_database(Once(str(root), split), root / "database")


if __name__ == "__main__":
    run_script(prepare)
