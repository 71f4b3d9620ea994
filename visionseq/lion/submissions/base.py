"""What all submissions have in common: a part for each frame, written as it comes, and one result made of the parts."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionseq.data.lidar.frame import LidarFrame
from visionseq.errors import ConfigError, DataError
from visionseq.files import atomic_write
from visionseq.lion.detections import Detections

PARTS = "parts"


class Submission(ABC):
    """Collects detections frame by frame in a folder, then joins them.

    Several processes may add frames to the same folder, each its own; one of them joins all.
    """

    result: str  # name of the file or folder that `join` makes
    suffix: str  # of a part
    benchmark_classes: tuple[str, ...] = ()  # empty: any

    def begin(self, class_names: Sequence[str]) -> None:
        """Called once, before the first frame; `ConfigError` for a class that the benchmark does not have."""
        self.class_names = tuple(class_names)
        others = [name for name in class_names if self.benchmark_classes and name not in self.benchmark_classes]
        if others:
            known = ", ".join(self.benchmark_classes)
            raise ConfigError(f"{type(self).__name__}: no class {others[0]!r}, expected some of {known}")

    def add(self, folder: Path, detections: Detections, frame: LidarFrame) -> None:
        """Write the part of one frame.

        `DataError` where the frame lacks what the benchmark identifies frames by, and for a box that is not finite.
        """
        if not (detections.boxes.isfinite().all() and detections.scores.isfinite().all()):
            raise DataError(f"frame {frame.frame_id}: a detection that is not finite; are the model's weights?")
        with atomic_write(frame_file(folder / PARTS, frame.frame_id, self.suffix)) as file:
            file.write(self.part(detections, frame))

    def finish(self, folder: Path, frame_ids: Sequence[str]) -> Path:
        """Join the parts of these frames, in their order, and remove all parts; returns the result."""
        parts = [frame_file(folder / PARTS, frame_id, self.suffix) for frame_id in frame_ids]
        missing = [str(path) for path in parts if not path.is_file()]
        if missing:
            raise DataError(f"{len(missing)} of {len(parts)} frames have no part: {missing[0]} is missing")
        self.join(parts, folder / self.result)
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        return folder / self.result

    @abstractmethod
    def part(self, detections: Detections, frame: LidarFrame) -> bytes:
        """What one frame adds to the result."""

    @abstractmethod
    def join(self, parts: Sequence[Path], result: Path) -> None:
        """Make the result of all parts, one of them in memory at a time."""

    def names_of(self, detections: Detections) -> list[str]:
        """The class names [N] of the detections."""
        return [self.class_names[label - 1] for label in detections.labels.tolist()]


def frame_file(folder: Path, frame_id: str, suffix: str) -> Path:
    """The file of a frame in a folder; `DataError` for an identifier that would lead elsewhere."""
    if not frame_id or frame_id in (".", "..") or any(mark in frame_id for mark in "/\\\0"):
        raise DataError(f"frame {frame_id!r}: expected an identifier that is a file name")
    return folder / f"{frame_id}{suffix}"


def origin_of(frame: LidarFrame, *names: str) -> list[Any]:
    """What is known of a frame's recording under these names; `DataError` for one that is missing."""
    missing = [name for name in names if name not in frame.origin]
    if missing:
        raise DataError(
            f"frame {frame.frame_id}: {', '.join(missing)} is not known; is it of the benchmark's data set?"
        )
    return [frame.origin[name] for name in names]
