"""PNG in and out, and the reduction of images by area averages, without TensorFlow."""

import functools
import io

import numpy as np
from numpy.typing import NDArray

from research.data.settings import Config
from research.errors import UserError

Image = NDArray[np.uint8]
RESOLUTIONS = (8, 16, 28, 32)  # of drawn and scanned images of 28 or 32 pixels a side


def check(data: Config) -> None:
    """Raise UserError for a data.resolution that is not one of RESOLUTIONS, or less than 0 images.

    `data.unique` says how many images of the train split are read, again and again; 0 is all of
    them (`source.cut`).
    """
    if data["resolution"] not in RESOLUTIONS:
        closest = min(RESOLUTIONS, key=lambda each: abs(each - data["resolution"]))
        raise UserError(
            f"data.resolution is {data['resolution']}; {data['name']} has 8, 16, 28 and 32"
            f" (nearest: {closest})"
        )
    if data["unique"] < 0:
        raise UserError(f"data.unique is {data['unique']}; expected 0, for all images, or more")


def png(image: Image) -> bytes:
    """Encode a grey image, uint8 [height, width], without loss."""
    from PIL import Image as pil

    buffer = io.BytesIO()
    pil.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode(content: bytes, channels: int) -> Image:
    """Decode an image file to uint8 [height, width, channels]; channels is 1, 3 or 4."""
    from PIL import Image as pil

    with pil.open(io.BytesIO(content)) as opened:
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    return pixels.reshape(*pixels.shape[:2], channels)


def resize(image: Image, resolution: int) -> Image:
    """Resize uint8 [height, width, channels] to a square of `resolution`, by area averages.

    A longer side is cropped around its middle first. Each new pixel is the mean over the square
    it covers, with the fractions of the pixels at its border, rounded to the nearest level (a
    half goes up). Pillow's box filter is not that: it takes or leaves whole pixels.
    """
    short = min(image.shape[:2])
    top, left = (image.shape[0] - short) // 2, (image.shape[1] - short) // 2
    square = image[top : top + short, left : left + short]
    weights = _overlaps(short, resolution)
    # Sums of integers below 2**53 are exact in float64, so every machine rounds alike.
    sums = np.einsum("yh,hwc,xw->yxc", weights, square.astype(np.float64), weights, optimize=True)
    return ((sums.astype(np.int64) + short**2 // 2) // short**2).astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _overlaps(old: int, new: int) -> NDArray[np.float64]:
    """Return [new, old]: how much of each old pixel a new one covers; a row sums to `old`."""
    grid = old * new  # an old pixel is `new` wide on it, a new one is `old` wide
    new_edges, old_edges = np.arange(0, grid + 1, old), np.arange(0, grid + 1, new)
    end = np.minimum(new_edges[1:, None], old_edges[None, 1:])
    start = np.maximum(new_edges[:-1, None], old_edges[None, :-1])
    return np.maximum(end - start, 0).astype(np.float64)


def pad(image: Image, size: int) -> Image:
    """Surround uint8 [height, width, channels] with black up to `size` a side."""
    missing = [size - side for side in image.shape[:2]]
    around = [(each // 2, each - each // 2) for each in missing]
    return np.pad(image, [*around, (0, 0)])
