"""Waymo's recordings to what `Waymo` reads: python datasets/waymo/prepare.py --recordings FOLDER"""

import sys
from pathlib import Path

from visionseq.cli import run_script
from visionseq.cli.outputs import claim_folder_of_results
from visionseq.errors import DataError
from visionseq.progress import progress

EVERY = {"Vehicle": 4, "Pedestrian": 2}  # common classes from every so many-th frame alone


def prepare(
    root: Path = Path("datasets/waymo"),
    split: str = "train",
    recordings: Path | None = None,
    processes: int = 1,
    interval: int = 1,
    database: bool = True,
    overwrite: bool = False,
) -> str:
    """Convert recordings, and write the database for ground-truth sampling.

    Args:
        root: Folder to write to; see the README beside this file. Segments that exist are kept.
        split: Folder below `root`: train, val or test.
        recordings: Folder with the .tfrecord files of the split; default: nothing is converted.
        processes: How many recordings to convert at a time.
        interval: Take every so many-th frame for the database.
        database: Write `root`/database; of the split train alone.
        overwrite: Build the database again where it exists.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from visionseq.data.lidar import Waymo
    from visionseq.data.lidar.prepare import write_database
    from visionseq.data.lidar.waymo_writer import write_segment
    from visionseq.geometry import NEAREST

    if database and split == "train":
        claim_folder_of_results(root / "database", overwrite)
    done = []
    if recordings is not None:
        files = sorted(recordings.glob("*.tfrecord"))
        if not files:
            raise DataError(f"{recordings}: no .tfrecord files")
        with (
            progress("converting recordings", len(files), "recordings") as meter,
            ProcessPoolExecutor(processes) as pool,
        ):
            for task in as_completed(
                [pool.submit(write_segment, file, root / split, split != "test") for file in files]
            ):
                task.result()
                meter.advance()
        done.append(f"{len(files)} segments in {root / split}")
    if database and split == "train":
        frames = Waymo(str(root / split), interval, min_points=1)
        with progress("cutting out objects", len(frames), "frames") as meter:
            done.append(write_database(frames, root / "database", NEAREST, EVERY, meter.advance))
    return "\n".join(done) or "nothing to do"


if __name__ == "__main__":
    sys.exit(run_script(prepare))
