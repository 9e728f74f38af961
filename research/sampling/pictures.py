"""Images as pictures: a grid, the steps of a walk side by side, or one after another."""

import io

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def to_png(images: np.ndarray, scale: int = 4, columns: int = 0, caption: str = "") -> bytes:
    """Lay images on one grid as a PNG, which carries its caption; see `grid`."""
    buffer, info = io.BytesIO(), PngInfo()
    if caption:
        info.add_text("Description", caption)
    grid(images, scale, columns).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def caption(png: bytes) -> str:
    """What `to_png` wrote into a PNG, or nothing."""
    with Image.open(io.BytesIO(png)) as opened:
        return str(opened.info.get("Description", ""))


def grid(images: np.ndarray, scale: int = 4, columns: int = 0) -> Image.Image:
    """Images [num, H, W, C] row by row, `columns` of them a row; by default about square.

    Floats are stretched from their own range to 8 bits.
    """
    if images.dtype != np.uint8:
        low, high = images.min(), images.max()
        images = ((images - low) / max(high - low, 1e-9) * 255).round().astype(np.uint8)
    num, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(num)))
    rows = -(-num // columns)
    laid = np.zeros((rows * columns, height + 1, width + 1, channels), np.uint8)
    laid[:num, :height, :width] = images
    laid = laid.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    laid = laid.reshape(rows * (height + 1), columns * (width + 1), channels)
    picture = Image.fromarray(laid[..., 0] if channels == 1 else laid)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def strip(frames: np.ndarray, count: int) -> bytes:
    """A PNG of `count` of the steps [steps, num, H, W, C]: a row an image."""
    return to_png(spread(frames, count), columns=count)


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` of the steps [steps, num, H, W, C], from the first to the last, of each image.

    They are [num * count, H, W, C], the steps of an image beside each other.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    return chosen.swapaxes(0, 1).reshape(-1, *frames.shape[2:])


def to_gif(frames: np.ndarray, milliseconds: int = 60) -> bytes:
    """An animation of the steps [steps, num, H, W, C], each a grid; the last stays longest."""
    first, *rest = (grid(frame) for frame in frames)
    buffer = io.BytesIO()
    last = [milliseconds] * len(rest) + [25 * milliseconds]
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=last, loop=0)
    return buffer.getvalue()
