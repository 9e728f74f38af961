"""A split in memory-mapped arrays, read by index: what every batch is gathered from."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a data set, with random access to its examples.

    A text example is {"tokens": int32 [length + 1]}, whatever integers are stored; example i is
    the window of `length` + 1 tokens from token i * stride on. An image example is
    {"image": [height, width, channels], uint8 when the data are discrete and float32 otherwise,
    "label": int32 []}.

    Attributes:
        kind: "text" or "image".
        split: "train", "validation" or "test".
        arrays: {"tokens": integers [tokens]} or {"image": [images, h, w, c], "label": [images]}.
        spec: text {"vocab_size", "length", "stride", "unit", "unique": predicted tokens};
            image {"shape", "num_classes", "class_names", "discrete", "unit", "unique": images}.
        fingerprint: sha256 of the content of all splits of the data set.
        floor: what no model can beat, {"value", "unit", "kind", "source"}, where it is known.
    """

    kind: Literal["text", "image"]
    split: str
    arrays: dict[str, NDArray[Any]]
    spec: dict[str, Any]
    fingerprint: str
    floor: dict[str, Any] | None = None

    @functools.cached_property
    def _windows(self) -> NDArray[np.integer]:
        """View the tokens as [examples, length + 1], without a copy."""
        tokens, length, stride = self.arrays["tokens"], self.spec["length"], self.spec["stride"]
        count = (len(tokens) - length - 1) // stride + 1
        width = tokens.strides[0]
        return np.lib.stride_tricks.as_strided(
            tokens, (count, length + 1), (stride * width, width), writeable=False
        )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._windows if self.kind == "text" else self.arrays["image"])

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """Return one example; see the class for its shapes."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return {key: value[0] for key, value in self.gather([index]).items()}

    def gather(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, NDArray[Any]]:
        """Return the examples `indices` ([batch]) stacked along a new first axis."""
        rows = np.asarray(indices)
        if self.kind == "text":
            return {"tokens": self._windows[rows].astype(np.int32)}
        return {"image": self.arrays["image"][rows], "label": self.arrays["label"][rows]}


def text(
    tokens: NDArray[np.integer], split: str, length: int, vocab_size: int, unit: str, stride: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the spec of a text split.

    Raises:
        UserError: when the split is shorter than one window of `length` + 1 tokens, or what is
            stored are no tokens.
    """
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise UserError(
            f"the {split} split holds {tokens.dtype} {list(tokens.shape)}; tokens are integers "
            "in one row"
        )
    if len(tokens) < length + 1:
        raise UserError(
            f"data.length is {length}, longer than the {split} split of {len(tokens)} tokens"
            f" (longest: {len(tokens) - 1})"
        )
    windows = (len(tokens) - length - 1) // stride + 1
    spec = {"vocab_size": vocab_size, "length": length, "stride": stride, "unit": unit}
    return {"tokens": tokens}, {**spec, "unique": windows * length}


def images(
    image: NDArray[Any], label: NDArray[np.int32], class_names: list[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the spec of an image split."""
    spec = {
        "shape": tuple(image.shape[1:]),
        "num_classes": len(class_names),
        "class_names": class_names,
        "discrete": image.dtype == np.uint8,
        "unit": "bits/dim",
        "unique": len(image),
    }
    return {"image": image, "label": label}, spec
