"""Waymo's recordings in the layout that `Waymo` reads: a folder per segment, with an array of points per frame."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from visionseq.data.lidar.infos import write_infos
from visionseq.data.lidar.waymo import FRAMES_FILE, LABELS_FILE
from visionseq.data.lidar.waymo_records import RecordedFrame, read_frames
from visionseq.errors import DataError
from visionseq.geometry import HULL, count_points
from visionseq.text_files import name_array

ENDING = "_with_camera_labels"  # of the recordings' names
MANY, ENOUGH = 20, 3  # a frame with so many labels (3) of so many points (20) is checked


def write_segment(recording: Path, out: Path, labelled: bool = True) -> Path:
    """Convert a .tfrecord file to a folder in `out`; an existing folder is kept unchanged. Returns the folder.

    Args:
        recording: the file.
        out: where to write.
        labelled: write labels.npz also where no frame has an object; the recordings of the test set have no labels.

    Raises `DataError` for a damaged recording, and where the points do not lie in the boxes that claim them.
    """
    folder = out / recording.stem.removesuffix(ENDING)
    if folder.is_dir():
        return folder
    out.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out, prefix=f".{folder.name}."))  # the same disk; readers skip the dot
    try:
        _write(recording, temporary, labelled)
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write(recording: Path, folder: Path, labelled: bool) -> None:
    # Write the points of each frame as it comes; collect the rest.
    rows, frames, names, context = [], [], [], ""
    checked = False
    for number, frame in enumerate(read_frames(recording)):
        checked = checked or _check(frame, f"{recording}, frame {number}")
        np.save(folder / f"{number:04d}.npy", frame.points)
        names += frame.names
        rows.append((np.full(len(frame.names), number), frame.boxes, frame.num_points, frame.difficulty))
        frames.append((number, frame.timestamp, frame.pose))
        context = frame.context
    if not frames:
        raise DataError(f"{recording}: no frames in it")

    # Write the table of frames, and the labels of all of them.
    numbers, times, poses = zip(*frames, strict=True)
    arrays = {"frame": np.array(numbers), "timestamp": np.array(times), "pose": np.array(poses)}
    write_infos(folder / FRAMES_FILE, {**arrays, "context": np.array([context])})
    if names or labelled:
        columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
        labels = dict(zip(("frame", "boxes", "num_points", "difficulty"), columns, strict=True))
        write_infos(folder / LABELS_FILE, {**labels, "names": name_array(names, str(recording))})


def _check(frame: RecordedFrame, where: str) -> bool:
    """True where a frame has enough labels to be checked; `DataError` where its boxes hold other numbers of points."""
    rows = frame.num_points >= MANY
    if rows.sum() < ENOUGH:
        return False
    counts, stated = count_points(frame.points, frame.boxes[rows], HULL), frame.num_points[rows]
    similar = (counts >= stated / 2) & (counts <= stated * 2)
    if similar.mean() < 0.5:
        counted = f"{counts[~similar][:3].tolist()} points instead of {stated[~similar][:3].tolist()}"
        raise DataError(f"{where}: boxes hold {counted}: this recording has another geometry than expected")
    return True
