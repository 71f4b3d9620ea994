"""KITTI's label files: one object a line, in the camera frame, with lidar boxes made from them."""

from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import UNKNOWN
from visionseq.data.lidar.headings import check_radians
from visionseq.errors import DataError
from visionseq.geometry import Calibration, camera_to_lidar
from visionseq.text_files import name_array, numbers_of, read_rows

DONT_CARE = "DontCare"
FIELDS = 15  # without the score of result files
MIN_HEIGHT, MAX_TRUNCATION, MAX_OCCLUSION = (40, 25, 25), (0.15, 0.3, 0.5), (0, 1, 2)


def read_labels(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a label or result file.

    `name` str [M]; `truncated`, `occluded`, `alpha` [M]; `bbox` [M, 4] pixels; `dimensions` [M, 3] (l, h, w);
    `location` [M, 3] (bottom centre); `rotation_y` [M]; `score` [M] (-1 where absent); `difficulty` int64 [M], 0 easy,
    1 moderate, 2 hard, -1 harder. `DataError` names the file and the line that is not a label.
    """
    # Names and numbers of each line; a missing score is -1.
    names, values = [], []
    for line, words in read_rows(path):
        if len(words) not in (FIELDS, FIELDS + 1):
            raise DataError(f"{path}, line {line}: {len(words)} fields, expected {FIELDS} or {FIELDS + 1}")
        numbers = numbers_of(path, line, words[1:])
        if words[0] != DONT_CARE:
            check_radians(numbers[13], f"{path}, line {line}")
        names.append(words[0])
        values.append([*numbers, -1.0][:FIELDS])

    # The columns by name.
    table = np.array(values, np.float64).reshape(-1, FIELDS)
    labels = {
        "name": name_array(names, str(path)),
        "truncated": table[:, 0],
        "occluded": table[:, 1],
        "alpha": table[:, 2],
        "bbox": table[:, 3:7],
        "dimensions": table[:, [9, 7, 8]],  # the file has height, width, length
        "location": table[:, 10:13],
        "rotation_y": table[:, 13],
        "score": table[:, 14],
    }
    return {**labels, "difficulty": difficulty_of(labels)}


def difficulty_of(labels: dict[str, np.ndarray]) -> np.ndarray:
    """int64 [M] as in info files: heights are one pixel larger than those that the evaluation compares."""
    height = labels["bbox"][:, 3] - labels["bbox"][:, 1] + 1
    difficulty = np.full(len(height), UNKNOWN, np.int64)
    for level in (2, 1, 0):
        visible = (height >= MIN_HEIGHT[level]) & (labels["truncated"] <= MAX_TRUNCATION[level])
        difficulty[visible & (labels["occluded"] <= MAX_OCCLUSION[level])] = level
    return difficulty


def lidar_boxes(labels: dict[str, np.ndarray], calibration: Calibration) -> np.ndarray:
    """float32 [M, 7] of all rows."""
    parts = [labels["location"], labels["dimensions"], labels["rotation_y"][:, None]]
    return camera_to_lidar(np.concatenate(parts, 1).astype(np.float32), calibration).astype(np.float32)
