"""A point cloud with boxes as one HTML file that turns in any browser, without a network and without a library.

Points are stored as 16-bit steps of the cloud's extent (a few millimetres) and an 8-bit intensity, in base64.
"""

import base64
import html
import json
import os
from importlib.resources import files
from typing import Any

import numpy as np

from visionseq.files import atomic_write
from visionseq.viz.boxes import EDGES, FRONT, DrawnBoxes

MOST_POINTS = 400_000  # a page with more would be slow to load; beyond, every k-th point is drawn
STEPS = 65535


def save_scene(path: str | os.PathLike, points: np.ndarray, *box_sets: DrawnBoxes, title: str = "") -> None:
    """Write the page, atomically.

    Args:
        path: the .html file.
        points: [N, >= 3] in metres; a fourth column is the intensity (scaled to its 99th percentile).
        box_sets: detections by class, and ground truth.
        title: heading of the panel and of the browser's window.
    """
    scene = json.dumps(_scene(points, box_sets, title), separators=(",", ":")).replace("</", "<\\/")
    page = files("visionseq.viz").joinpath("scene.html").read_text(encoding="utf-8")
    page = page.replace("__TITLE__", html.escape(title)).replace("__SCENE__", scene)
    with atomic_write(path) as file:
        file.write(page.encode())


def _scene(points: np.ndarray, box_sets: tuple[DrawnBoxes, ...], title: str) -> dict[str, Any]:
    """What the page draws, as plain values."""
    # At most MOST_POINTS finite points, as steps of their extent.
    total = len(points)
    shown = points[np.isfinite(points[:, :3]).all(1)]
    shown = shown[:: max(-(-len(shown) // MOST_POINTS), 1)]
    place = shown[:, :3].astype(np.float64)
    low = place.min(0) if len(place) else np.zeros(3)
    span = np.maximum(place.max(0) - low, 1e-3) if len(place) else np.ones(3)
    steps = np.rint((place - low) / span * STEPS).astype("<u2")

    # Boxes by class, and where the view begins.
    groups, boxes = _boxes(box_sets)
    centre = np.median(place, 0) if len(place) else np.zeros(3)
    return {
        "title": title,
        "total": total,
        "count": len(shown),
        "points": base64.b64encode(steps.tobytes()).decode(),
        "intensity": base64.b64encode(_intensity(shown).tobytes()).decode(),
        "low": _rounded(low),
        "span": _rounded(span),
        "centre": _rounded(centre),
        "reach": 60.0,
        "edges": [*EDGES, (FRONT[0], FRONT[2]), (FRONT[1], FRONT[3])],
        "groups": groups,
        "boxes": boxes,
    }


def _boxes(box_sets: tuple[DrawnBoxes, ...]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Groups (name, colour) and boxes (group, score, text, centre, corners); boxes that are not finite are left out."""
    groups: dict[tuple[str, bool], int] = {}
    described, rows = [], []
    for boxes in box_sets:
        corners = boxes.corners
        for row in range(len(boxes)):
            if not np.isfinite(corners[row]).all():
                continue

            # One group for the detections of a class, another for its true boxes.
            score = None if boxes.scores is None else round(float(boxes.scores[row]), 4)
            truth = score is None
            name = boxes.names[int(boxes.labels[row])]
            if (name, truth) not in groups:
                groups[name, truth] = len(groups)
                described.append({"name": f"{name}, true" if truth else name, "colour": boxes.colour(row)})

            rows.append({
                "group": groups[name, truth],
                "score": score,
                "text": boxes.text(row),
                "centre": _rounded(corners[row].mean(0)),
                "corners": [_rounded(corner) for corner in corners[row]],
            })  # fmt: skip
    return described, rows


def _intensity(points: np.ndarray) -> np.ndarray:
    """uint8 [N]: the fourth column, with its 99th percentile at 255; zeros without such a column."""
    if points.shape[1] < 4 or not len(points):
        return np.zeros(len(points), np.uint8)
    values = np.nan_to_num(points[:, 3].astype(np.float64), posinf=0.0, neginf=0.0)
    brightest = max(float(np.percentile(values, 99)), 1e-6)
    return (np.clip(values / brightest, 0.0, 1.0) * 255).astype(np.uint8)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in values]
