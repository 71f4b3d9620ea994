"""A point cloud and its boxes from above, to scale: x to the right, y upwards."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from visionseq.errors import DataError
from visionseq.viz.boxes import DrawnBoxes

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 1200  # pixels of the longer side
PAPER, GRID, INK = (14, 16, 22), (42, 46, 58), (150, 156, 170)
RINGS = 20.0  # metres between two circles around the sensor
LEGEND = 28  # pixels below the map


def bev_picture(points: np.ndarray, view: Sequence[float], *box_sets: DrawnBoxes, title: str = "") -> "Image":
    """Points [N, >= 3] coloured by height, and boxes with a line from the centre through the front.

    Args:
        points: in the lidar frame, metres; points outside of `view` are not shown.
        view: x and y minimum, then x and y maximum, in metres; or a point range of six values.
        box_sets: detections in the colours of their classes, ground truth in white.
        title: text below the map.
    """
    from PIL import Image, ImageDraw

    # The map: points on a dark background, and room for the legend below it.
    low, high = _view(view)
    scale = SIDE / (high - low).max()
    width, height = np.maximum(np.rint((high - low) * scale).astype(int), 1)
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = PAPER
    _put_points(pixels, points, low, scale)
    picture = Image.new("RGB", (int(width), int(height) + LEGEND), PAPER)
    picture.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(picture)

    def place(xy: np.ndarray) -> list[tuple[float, float]]:
        column, row = ((xy - low) * scale).T
        return list(zip(column.tolist(), (height - 1 - row).tolist(), strict=True))

    # Rings, boxes, and the legend, which covers what reaches beyond the map.
    _put_rings(draw, place, scale, low, high)
    for boxes in box_sets:
        _put_boxes(draw, boxes, place, low, high)
    draw.rectangle((0, int(height), int(width), int(height) + LEGEND), fill=PAPER)
    draw.text((8, int(height) + 6), _legend(box_sets, title), fill=INK, font=_font())
    return picture


def _view(view: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of x and y, each [2]."""
    values = np.asarray(view, np.float64)
    if values.shape not in ((4,), (6,)) or not np.isfinite(values).all():
        raise DataError(
            f"view {list(view)}: expected x and y minimum, then x and y maximum, or a point range of six numbers"
        )
    half = len(values) // 2
    low, high = values[:2], values[half : half + 2]
    if (high <= low).any():
        raise DataError(f"view {list(view)}: expected maxima above the minima")
    return low, high


def _put_points(pixels: np.ndarray, points: np.ndarray, low: np.ndarray, scale: float) -> None:
    with np.errstate(invalid="ignore"):
        place = np.floor((points[:, :2] - low) * scale)
        inside = ((place >= 0) & (place < (pixels.shape[1], pixels.shape[0]))).all(1) & np.isfinite(points[:, 2])
    column, row = place[inside].astype(np.int64).T
    order = np.argsort(points[inside, 2], kind="stable")  # the highest point of a pixel is seen from above
    pixels[pixels.shape[0] - 1 - row[order], column[order]] = height_colours(points[inside, 2][order])


def height_colours(z: np.ndarray) -> np.ndarray:
    """uint8 [N, 3]: blue below, through green, to yellow; from two metres below the sensor to two above."""
    share = np.clip((np.asarray(z, np.float64) + 2.0) / 4.0, 0.0, 1.0)[:, None]
    stops = np.array([[60, 80, 170], [40, 150, 160], [120, 200, 110], [240, 230, 120]], np.float64)
    place = share * (len(stops) - 1)
    lower = np.minimum(place.astype(np.int64), len(stops) - 2)[:, 0]
    return (stops[lower] * (1 - (place - lower[:, None])) + stops[lower + 1] * (place - lower[:, None])).astype(
        np.uint8
    )


def _put_rings(draw, place, scale: float, low: np.ndarray, high: np.ndarray) -> None:
    (centre,) = place(np.zeros((1, 2)))
    farthest = np.abs(np.stack([low, high])).max() * 2**0.5
    for radius in np.arange(RINGS, farthest, RINGS) * scale:
        draw.ellipse((centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius), outline=GRID)
    for radius in np.arange(RINGS, farthest, RINGS):
        draw.text(place(np.array([[0.0, radius]]))[0], f"{radius:.0f} m", fill=INK, font=_font(), anchor="mm")


def _put_boxes(draw, boxes: DrawnBoxes, place, low: np.ndarray, high: np.ndarray) -> None:
    corners = boxes.corners
    for row in range(len(boxes)):
        outline = corners[row, :4, :2]
        if not np.isfinite(outline).all() or (outline.max(0) < low).any() or (outline.min(0) > high).any():
            continue
        colour = boxes.colour(row)
        draw.line([*place(outline), *place(outline[:1])], fill=colour, width=2)
        draw.line(place(np.stack([outline.mean(0), outline[:2].mean(0)])), fill=colour, width=2)
        if boxes.scores is not None or boxes.by_class:
            draw.text(place(outline.max(0)[None])[0], boxes.text(row), fill=colour, font=_font(11))


def _legend(box_sets: Sequence[DrawnBoxes], title: str) -> str:
    counts = [f"{len(boxes)} {'true boxes' if boxes.scores is None else 'detections'}" for boxes in box_sets]
    return "   ".join([*([title] if title else []), *counts])


def _font(size: int = 13):
    from PIL import ImageFont

    return ImageFont.load_default(size)
