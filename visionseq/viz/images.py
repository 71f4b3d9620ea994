"""Grids of images with labelled rows, as PNG files.

Images are [N, C, H, W], float in [-1, 1] or uint8, with one or three channels.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visionseq.errors import DataError
from visionseq.files import atomic_write
from visionseq.pixels import to_uint8

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_TILE = 64  # pixels: smaller images are enlarged by whole numbers
_PADDING, _MARGIN, _FONT_SIZE, _TITLE_SIZE = 2, 8, 14, 16
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


def to_pil(images: Tensor) -> "list[Image]":
    """One picture per image: grey for one channel, RGB for three. Raises `DataError` for other shapes."""
    from PIL import Image

    _check(images)
    pixels = to_uint8(images.detach().cpu()).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]


def image_grid(
    images: Tensor,
    columns: int | None = None,
    row_labels: Sequence[str] = (),
    title: str | None = None,
    scale: int | None = None,
) -> "Image":
    """All images in one picture, row by row.

    Args:
        images: [N, C, H, W], float in [-1, 1] or uint8, C = 1 or 3.
        columns: images per row; default: as square as possible.
        row_labels: text to the left of each row.
        title: text above the grid.
        scale: whole number that pixels are enlarged by (nearest neighbour); default: tiles of at least 64 pixels.
    """
    from PIL import Image

    tiles = to_pil(images)
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    scale = scale or max(1, math.ceil(MIN_TILE / max(tiles[0].size)))
    width, height = (side * scale + _PADDING for side in tiles[0].size)
    left, top = _label_width(row_labels), _TITLE_SIZE + 2 * _MARGIN if title else 0
    picture = Image.new("RGB", (left + columns * width + _PADDING, top + rows * height + _PADDING), _PAPER)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        enlarged = tile.resize((tile.width * scale, tile.height * scale), Image.Resampling.NEAREST)
        picture.paste(enlarged, (left + _PADDING + column * width, top + _PADDING + row * height))
    _write_text(picture, row_labels[:rows], title, top, height)
    return picture


def labelled_rows(rows: Mapping[str, Tensor], title: str | None = None, scale: int | None = None) -> "Image":
    """A grid with one labelled row per entry; all rows hold the same number of images of one size."""
    shapes = {tuple(images.shape) for images in rows.values()}
    if len(shapes) != 1:
        raise DataError(f"rows of a picture have the shapes {sorted(shapes)}, expected one shape [N, C, H, W]")
    images = torch.cat([to_uint8(images.detach().cpu()) for images in rows.values()])
    return image_grid(images, len(images) // len(rows), list(rows), title, scale)


def save_png(picture: "Image", path: str | os.PathLike) -> None:
    """Write a picture as PNG, atomically."""
    with atomic_write(path) as file:
        picture.save(file, format="PNG")


def _label_width(labels: Sequence[str]) -> int:
    return math.ceil(max(map(_font(_FONT_SIZE).getlength, labels))) + 2 * _MARGIN if labels else 0


def _write_text(picture: "Image", labels: Sequence[str], title: str | None, top: int, row_height: int) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    if title:
        draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=_font(_TITLE_SIZE))
    for row, label in enumerate(labels):
        middle = top + _PADDING + row * row_height + row_height // 2
        draw.text((_MARGIN, middle), label, fill=_INK, font=_font(_FONT_SIZE), anchor="lm")


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise DataError(f"images of shape {tuple(images.shape)}, expected [N, 1 or 3, H, W] with at least one image")
