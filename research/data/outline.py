"""What batches look like by a source's settings alone: nothing is prepared or downloaded."""

from typing import Any

import numpy as np

from research.data.settings import Config, check
from research.errors import UserError


def outline(data: Config) -> dict[str, Any]:
    """Return `Source.spec` without what only the data can tell ("unique", the class names).

    Raises:
        UserError: a wrong key or value, or TFDS images whose size needs data.resolution.
    """
    checked = check(data)
    name = checked["name"]
    if name == "markov":
        return _text(checked["length"], checked["vocab_size"])
    if name == "python_stdlib":
        return _text(checked["length"], 256)
    if name == "gaussian_mixture":
        return _image((checked["resolution"],) * 2, 1, checked["components"], discrete=False)
    if name == "fashion_mnist":
        return _image((checked["resolution"],) * 2, 1, 10)
    if name == "glyphs":
        from research.data import glyphs

        names = glyphs.CATEGORIES if checked["label"] == "category" else glyphs.styles()
        return _image((checked["resolution"],) * 2, 1, len(names))
    return _foreign(checked)


def batch_shapes(spec: dict[str, Any], batch_size: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return {name: (shape, dtype)} of the arrays of one batch, as `Source.gather` gives them."""
    if "length" in spec:
        return {"tokens": ((batch_size, spec["length"] + 1), np.int32)}
    dtype = np.uint8 if spec["discrete"] else np.float32
    return {"image": ((batch_size, *spec["shape"]), dtype), "label": ((batch_size,), np.int32)}


def _text(length: int, vocab_size: int) -> dict[str, Any]:
    return {"length": length, "vocab_size": vocab_size}


def _image(
    sides: tuple[int, ...], channels: int, num_classes: int, discrete: bool = True
) -> dict[str, Any]:
    return {"shape": (*sides, channels), "num_classes": num_classes, "discrete": discrete}


def _foreign(data: dict[str, Any]) -> dict[str, Any]:
    """The same of a TFDS builder: its features are known before its files are."""
    from research.data import foreign

    features = foreign.features(data)
    feature = features[foreign.feature(features, data["feature"])]
    if type(feature).__name__ != "Image":
        return _text(data["length"], 256)
    sides = (data["resolution"],) * 2 if data["resolution"] else feature.shape[:2]
    if None in sides:
        raise UserError(
            f"the images of {data['name']} differ in size; give data.resolution, such as 32"
        )
    return _image(tuple(sides), feature.shape[-1] or 3, len(foreign.label(features)[1]))
