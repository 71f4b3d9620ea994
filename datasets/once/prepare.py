"""ONCE as it was downloaded to what `Once` reads: python datasets/once/prepare.py --downloads FOLDER"""

import sys
from pathlib import Path

from visionseq.cli import run_script
from visionseq.cli.outputs import claim_folder_of_results
from visionseq.progress import progress

FILES = r"(?:^|/)(data/\d{6}/(?:\d{6}\.json|lidar_roof/\d+\.bin))$"


def prepare(
    root: Path = Path("datasets/once"),
    downloads: Path | None = None,
    split: str = "train",
    *,
    database: bool = True,
    overwrite: bool = False,
) -> str:
    """Unpack the archives, and write the object database for ground-truth sampling.

    Args:
        root: Folder to write to; see the README beside this file. Files that exist are kept.
        downloads: Folder with the .tar archives of annotations and lidar; default: nothing is unpacked.
        split: Part whose objects to cut out.
        database: Write `root`/database, which reads every frame of the split.
        overwrite: Build the database again where it exists.
    """
    from visionseq.data.lidar import Once
    from visionseq.data.lidar.prepare import archives_in, unpack, write_database

    if database:
        claim_folder_of_results(root / "database", overwrite)
    done = []
    if downloads is not None:
        with progress("unpacking archives", len(archives_in(downloads)), "archives") as meter:
            done.append(unpack(downloads, root, FILES, meter.advance))
    if database:
        frames = Once(str(root), split)
        with progress("cutting out objects", len(frames), "frames") as meter:
            done.append(write_database(frames, root / "database", progress=meter.advance))
    return "\n".join(done) or "nothing to do"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
