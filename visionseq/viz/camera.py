"""Boxes of the lidar frame drawn into the image of a calibrated camera."""

from typing import TYPE_CHECKING

import numpy as np

from visionseq.viz.boxes import EDGES, FRONT, DrawnBoxes

if TYPE_CHECKING:
    from PIL.Image import Image

    from visionseq.geometry import Calibration

NEAREST = 0.5  # metres in front of the camera; nearer points have no place in the picture


def camera_picture(image: "Image", calibration: "Calibration", *drawn: DrawnBoxes) -> "Image":
    """A copy of the image with the edges of all boxes that lie in front of the camera; the front face is crossed."""
    from PIL import ImageDraw

    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    for boxes in drawn:
        for row, corners in enumerate(boxes.corners):
            pixels, depth = calibration.lidar_to_image(corners)
            if not np.isfinite(pixels).all() or (depth < NEAREST).any():
                continue
            points = [tuple(pixel) for pixel in pixels.tolist()]
            a, b, c, d = FRONT
            for start, end in (*EDGES, (a, c), (b, d)):
                draw.line((points[start], points[end]), fill=boxes.colour(row), width=2)
    return picture
