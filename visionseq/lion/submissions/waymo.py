"""Waymo's detection submission: one `Objects` message of the published protocol buffers (arXiv 1912.04838).

Objects: 1 objects. Object: 1 object (a Label), 2 score (float), 4 context_name, 5 frame_timestamp_micros. Label: 1 box,
3 type (1 Vehicle, 2 Pedestrian, 3 Sign, 4 Cyclist). Box: 1 to 3 centre, 4 width, 5 length, 6 height, 7 heading, all
doubles, in the vehicle frame. Waymo's own tool `create_submission` takes the file and adds who submits it.
"""

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.waymo_records import TYPES
from visionseq.files import atomic_write
from visionseq.lion.detections import Detections
from visionseq.lion.submissions.base import Submission, origin_of

NUMBERS = {name: number for number, name in TYPES.items()}
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5  # kinds of fields


class WaymoSubmission(Submission):
    """Writes detections.bin; frames come from `Waymo`, prepared with the times of the frames."""

    result, suffix = "detections.bin", ".bin"
    benchmark_classes = tuple(TYPES.values())

    def part(self, detections: Detections, frame: LidarFrame) -> bytes:
        context, time = origin_of(frame, "context_name", "timestamp_micros")
        of_frame = _field(4, BYTES, context.encode()) + _field(5, VARINT, _varint(time))
        boxes, scores = detections.boxes.double().tolist(), detections.scores.tolist()
        objects = []
        for (x, y, z, length, width, height, heading, *_), name, score in zip(
            boxes, self.names_of(detections), scores, strict=True
        ):
            values = (x, y, z, width, length, height, heading)
            box = b"".join(_field(i, DOUBLE, struct.pack("<d", value)) for i, value in enumerate(values, 1))
            label = _field(1, BYTES, box) + _field(3, VARINT, _varint(NUMBERS[name]))
            objects.append(_field(1, BYTES, label) + _field(2, FLOAT, struct.pack("<f", score)) + of_frame)
        return b"".join(_field(1, BYTES, message) for message in objects)

    def join(self, parts: Sequence[Path], result: Path) -> None:
        """A message of repeated fields is what its parts are one after the other."""
        with atomic_write(result) as file:
            for part in parts:
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, file)


def _field(number: int, kind: int, value: bytes) -> bytes:
    tag = _varint(number << 3 | kind)
    return tag + (_varint(len(value)) if kind == BYTES else b"") + value


def _varint(number: int) -> bytes:
    """A whole number from 0, seven bits a byte, the lowest first."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])
