"""Argoverse 2 as downloaded to what `Argoverse2` reads: python datasets/argoverse2/prepare.py --downloads FOLDER"""

import sys
from pathlib import Path

from visionseq.cli import run_script
from visionseq.cli.outputs import claim_folder_of_results
from visionseq.progress import progress

FILES = (
    r"(?:^|/)((?:train|val|test)/[\w-]+/"
    r"(?:sensors/lidar/\d+|annotations|city_SE3_egovehicle|calibration/\w+)\.feather)$"
)


def prepare(
    root: Path = Path("datasets/argoverse2"),
    downloads: Path | None = None,
    split: str = "train",
    *,
    database: bool = True,
    overwrite: bool = False,
) -> str:
    """Unpack the archives, and write the object database for ground-truth sampling.

    Args:
        root: Folder to write to; see the README beside this file. Files that exist are kept.
        downloads: Folder with the .tar archives (train-000.tar ...); default: nothing is unpacked.
        split: Part whose objects to cut out.
        database: Write `root`/database, which reads every frame of the split.
        overwrite: Build the database again where it exists.
    """
    from visionseq.data.lidar import Argoverse2
    from visionseq.data.lidar.prepare import archives_in, unpack, write_database
    from visionseq.geometry import NEAREST

    if database:
        claim_folder_of_results(root / "database", overwrite)
    done = []
    if downloads is not None:
        with progress("unpacking archives", len(archives_in(downloads)), "archives") as meter:
            done.append(unpack(downloads, root, FILES, meter.advance))
    if database:
        frames = Argoverse2(str(root), split)
        with progress("cutting out objects", len(frames), "frames") as meter:
            done.append(write_database(frames, root / "database", NEAREST, progress=meter.advance))
    return "\n".join(done) or "nothing to do"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
