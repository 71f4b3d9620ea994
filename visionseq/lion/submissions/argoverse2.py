"""Argoverse 2's detection submission: one Feather file, boxes in the ego frame of their sweep (arXiv 2301.00493).

Columns tx_m, ty_m, tz_m, length_m, width_m, height_m, qw, qx, qy, qz, score (double), log_id (text), timestamp_ns
(int64) and category (text, upper case), a row for each box.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visionseq.data.lidar.argoverse2 import CLASS_NAMES
from visionseq.data.lidar.frame import LidarFrame
from visionseq.errors import import_extra
from visionseq.files import atomic_write
from visionseq.geometry.rotations import upright_quaternions
from visionseq.lion.detections import Detections
from visionseq.lion.submissions.base import Submission, origin_of

if TYPE_CHECKING:
    import pyarrow

PLACE = ("tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m", "qw", "qx", "qy", "qz")


class Argoverse2Submission(Submission):
    """Writes detections.feather; frames come from `Argoverse2`, or name their `log` and `timestamp_ns`."""

    result, suffix = "detections.feather", ".feather"
    benchmark_classes = CLASS_NAMES

    def part(self, detections: Detections, frame: LidarFrame) -> bytes:
        pyarrow = import_extra("pyarrow", "lidar")
        log, time = origin_of(frame, "log", "timestamp_ns")
        boxes, count = detections.boxes.double().cpu().numpy(), len(detections)
        values = np.column_stack([boxes[:, :6], upright_quaternions(boxes[:, 6])])
        columns: dict[str, np.ndarray | list[str]] = {name: values[:, number] for number, name in enumerate(PLACE)}
        columns["score"] = detections.scores.double().cpu().numpy()
        columns |= {"log_id": [log] * count, "timestamp_ns": np.full(count, time, np.int64)}
        columns["category"] = [name.upper() for name in self.names_of(detections)]
        return _written(pyarrow.table(columns, _schema()))

    def join(self, parts: Sequence[Path], result: Path) -> None:
        pyarrow = import_extra("pyarrow", "lidar")
        with atomic_write(result) as file, pyarrow.ipc.new_file(file, _schema()) as writer:
            for part in parts:
                with pyarrow.ipc.open_file(part.read_bytes()) as reader:
                    writer.write_table(reader.read_all())


def _schema() -> "pyarrow.Schema":
    pyarrow = import_extra("pyarrow", "lidar")
    numbers = [(name, pyarrow.float64()) for name in (*PLACE, "score")]
    others = [("log_id", pyarrow.string()), ("timestamp_ns", pyarrow.int64()), ("category", pyarrow.string())]
    return pyarrow.schema([*numbers, *others])


def _written(table: "pyarrow.Table") -> bytes:
    """A table as Feather bytes (version 2, which is Arrow's file format)."""
    pyarrow = import_extra("pyarrow", "lidar")
    buffer = io.BytesIO()
    with pyarrow.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()
