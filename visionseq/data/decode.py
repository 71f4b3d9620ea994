"""From the bytes of a PNG, JPEG or WebP file to a square uint8 image, without trusting the bytes.

The crop is the one of ADM (arXiv 2105.05233): halve with a box filter while both sides are at least twice the target,
resize bicubically to the target, cut out the centre.
"""

import io
import warnings

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visionseq.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
MAX_PIXELS = 1 << 26  # 67 megapixels: 256 MB while decoding
MAX_BYTES = 1 << 28  # of an encoded file
_FORMATS = ("PNG", "JPEG", "WEBP")
_MODES = {1: "L", 3: "RGB"}
_ORIENTATION = 0x0112  # EXIF tag; its values 2 to 8 say how the stored image is turned
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(
    data: bytes, where: str, size: int | None = None, channels: int = 3, exif_orientation: bool = False
) -> Tensor:
    """uint8 [C, S, S] (or [C, H, W] where `size` is None) from an encoded file.

    Transparency is dropped, 16-bit grey is cut to its upper 8 bits. `exif_orientation` turns the image as its EXIF tag
    says; the published preparations of benchmark data leave the tag aside. `where` names the file in errors.

    Raises `DataError` where the bytes are not such an image, end early, or declare more than 67 megapixels.
    """
    picture = _open(data, where, channels, exif_orientation)
    if size is not None:
        picture = center_crop(picture, size)
    pixels = np.array(picture, dtype=np.uint8)  # a copy: Pillow's own buffer is read-only
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


def image_channels(data: bytes, where: str) -> int:
    """1 where an encoded file is grey, otherwise 3."""
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception as error:
        raise DataError(f"{where}: not a readable PNG, JPEG or WebP image: {_reason(error)}") from error
    return 1 if picture.mode in ("1", "L", "LA") or picture.mode.startswith("I") else 3


def center_crop(picture: Image.Image, size: int) -> Image.Image:
    """The square of `size` pixels from the centre of the picture, as ADM cuts it."""
    if picture.size == (size, size):
        return picture  # resizing and cutting would copy it twice
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def encode_png(pixels: Tensor | np.ndarray) -> bytes:
    """PNG bytes of a uint8 [C, H, W] image with 1 or 3 channels."""
    array = np.asarray(pixels)
    picture = Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _open(data: bytes, where: str, channels: int, exif_orientation: bool) -> Image.Image:
    if not data:
        raise DataError(f"{where}: empty, expected a PNG, JPEG or WebP image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of bombs and odd metadata; the limit is below
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            _check_size(picture, where)
            return _plain(_upright(picture) if exif_orientation else picture, _MODES[channels])
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"{where}: not a readable PNG, JPEG or WebP image: {_reason(error)}") from error


def _check_size(picture: Image.Image, where: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS or min(width, height) < 1:
        raise DataError(f"{where}: declares {width} x {height} pixels, expected at most {MAX_PIXELS} in all")
    if max(width, height) > 100 * min(width, height):  # cropping to a square would need an enormous intermediate
        raise DataError(f"{where}: declares {width} x {height} pixels, expected sides within a factor of 100")


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF tag says."""
    orientation = picture.getexif().get(_ORIENTATION)
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _plain(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    picture.load()
    return picture if picture.mode == mode else picture.convert(mode)


def _reason(error: Exception) -> str:
    return str(error).replace("<_io.BytesIO object at ", "<bytes at ") or type(error).__name__
