"""A point cloud with boxes as a recording for the Rerun viewer (the extra `viz`)."""

import os

import numpy as np

from visionseq.errors import import_extra
from visionseq.files import atomic_path
from visionseq.viz.bev import height_colours
from visionseq.viz.boxes import EDGES, DrawnBoxes


def check_rerun() -> None:
    """Raise the error that names the missing extra before any work is done."""
    import_extra("rerun", "viz")


def save_rerun(path: str | os.PathLike, points: np.ndarray, *box_sets: DrawnBoxes) -> None:
    """Write an .rrd file, atomically: points coloured by height, boxes as labelled line strips."""
    rerun = import_extra("rerun", "viz")
    with atomic_path(path) as temporary:
        recording = rerun.RecordingStream("visionseq")
        recording.save(temporary)
        recording.log("points", rerun.Points3D(points[:, :3], colors=height_colours(points[:, 2])), static=True)
        for number, boxes in enumerate(box_sets):
            strips, colours, texts = [], [], []
            for row, corners in enumerate(boxes.corners):
                strips += [corners[list(edge)] for edge in EDGES]
                colours += [boxes.colour(row)] * len(EDGES)
                texts += [boxes.text(row)] + [""] * (len(EDGES) - 1)
            lines = rerun.LineStrips3D(strips, colors=colours, labels=texts)
            recording.log(f"boxes/{number}", lines, static=True)
        recording.flush()
