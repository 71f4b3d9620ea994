"""The ground-truth database of nuScenes: python datasets/nuscenes/prepare.py"""

from pathlib import Path

from visionseq.data.lidar import NuScenes
from visionseq.data.lidar.prepare import write_database
from visionseq.data.prepare import run_script
from visionseq.geometry import NEAREST


def prepare(
    root: Path = Path("datasets/nuscenes"), version: str = "v1.0-trainval", scenes: Path | None = None, sweeps: int = 10
) -> str:
    """Read the keyframes of some scenes with their sweeps, and write `root`/database for ground-truth sampling.

    Args:
        root: Folder with samples/, sweeps/ and the tables of the version, see the README beside this file.
        version: Name of the tables' folder.
        scenes: Text file with the names of the training scenes; default: `root`/train.txt.
        sweeps: Keyframe and earlier sweeps together.
    """
    frames = NuScenes(str(root), version, str(scenes or root / "train.txt"), sweeps)
    return write_database(frames, root / "database", NEAREST)


if __name__ == "__main__":
    run_script(prepare)
