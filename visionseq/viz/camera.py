"""Boxes of the lidar frame box_sets into the image of a calibrated camera."""

from typing import TYPE_CHECKING

import numpy as np

from visionseq.viz.boxes import EDGES, FRONT, DrawnBoxes

if TYPE_CHECKING:
    from PIL.Image import Image

    from visionseq.geometry import Calibration

NEAREST = 0.5  # metres in front of the camera; boxes with nearer corners are not drawn


def camera_picture(image: "Image", calibration: "Calibration", *box_sets: DrawnBoxes) -> "Image":
    """A copy of the image in RGB with the edges of all boxes in front of the camera; a cross marks the front face."""
    from PIL import ImageDraw

    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    for boxes in box_sets:
        for row, corners in enumerate(boxes.corners):
            pixels, depth = calibration.lidar_to_image(corners)
            if not np.isfinite(pixels).all() or (depth < NEAREST).any():
                continue
            points = [tuple(pixel) for pixel in pixels.tolist()]
            a, b, c, d = FRONT
            for start, end in (*EDGES, (a, c), (b, d)):
                draw.line((points[start], points[end]), fill=boxes.colour(row), width=2)
    return picture
