"""One encoded image (JPEG, PNG, ...) to pixels: colour, size, and a sentence when it is broken."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import BlindspotsError

Mode = Literal["L", "RGB"]
# What Pillow lets through when a file is cut or overwritten: its readers raise more than OSError.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, zipfile.BadZipFile)
_GRAY = ("1", "L", "LA", "La")
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def opened(data: bytes, where: str) -> Image.Image:
    """Open an image without decoding its pixels, refusing more than 8 bits a channel."""
    try:
        image = Image.open(io.BytesIO(data))
    except BROKEN as error:
        raise _corrupt(where, error) from error
    if image.mode in _DEEP:
        raise BlindspotsError(f"image {where} has more than 8 bits a channel: save it with 8 bits")
    return image


def pixels(image: Image.Image, where: str, mode: Mode | None = None, size: int | None = None) -> NDArray[np.uint8]:
    """Decode to (C, H, W) uint8: one channel for mode "L", three for "RGB"; its own where mode is None.

    Transparency is dropped, not blended; the EXIF orientation is not applied (as in torchvision's ImageFolder).
    With `size`, the shorter side is resized to it (bilinear, antialiased) and the centre size x size cut out.
    """
    try:
        image = coloured(image, mode or mode_of(image))
        if size is not None:
            image = _centre(image, size)
        array = np.array(image, dtype=np.uint8)
    except BROKEN as error:
        raise _corrupt(where, error) from error
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def mode_of(image: Image.Image) -> Mode:
    """ "L" for an image without colour channels, "RGB" for every other (a palette counts as colour)."""
    return "L" if image.mode in _GRAY else "RGB"


def coloured(image: Image.Image, mode: Mode) -> Image.Image:
    """Convert to the mode; a transparent palette goes through RGBA, which is the road Pillow asks for."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    # The longer side is cut to a whole number and the crop rounded as torchvision's Resize and CenterCrop do.
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _corrupt(where: str, error: BaseException) -> BlindspotsError:
    reason: Any = str(error).split("\n")[0][:120] or type(error).__name__
    if "cannot identify image file" in reason:
        reason = "its contents are no image"
    return BlindspotsError(f"image {where} cannot be read ({reason}): replace or remove it")
