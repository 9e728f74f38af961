"""A split in memory-mapped arrays, read by index: what every batch is gathered from.

A spec says what a batch of a source looks like and what its numbers mean. All specs have

    unit: of the amount of data, "tokens" or "images"
    amount: how many of them an example is
    arrays: {name in a batch: Column}

and `unique`, the amount in the split, once the data are prepared.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError

Spec = dict[str, Any]
# Arrays that may come beside tokens, one value for each token; the first are of those predicted.
BESIDE = {
    "weights": np.float32, "bytes": np.uint8, "segments": np.int32, "positions": np.int32,
}  # fmt: skip
PREDICTED = ("weights", "bytes")


class Column(NamedTuple):
    """One array of a batch, [batch, *shape].

    Attributes:
        shape: of one example.
        dtype: in a batch, whatever is stored.
        stored: the name of the array in the prepared folder.
        first: of a stream, where in a window of tokens the array begins.
    """

    shape: tuple[int, ...]
    dtype: Any
    stored: str
    first: int = 0


def text(
    length: int,
    vocab_size: int,
    *,
    bytes_per_token: float | None = None,
    stride: int = 0,
    beside: Sequence[str] = (),
) -> Spec:
    """Return the spec of tokens that are stored as one stream, any integers below `vocab_size`.

    Example i is the window of `length` + 1 tokens from token i * stride on: int32 "tokens"
    [length + 1], and what is stored beside them, [length] each. "weights" (float32) are those of
    the predicted tokens, tokens[1:], of mean 1 where the loss shall stay in nats a token, and
    "bytes" (uint8) is how many bytes of text those spell, with which scores are in bits/byte;
    "segments" and "positions" (int32) are those of the tokens that are read, tokens[:-1].

    Args:
        bytes_per_token: the bytes of text that a token spells, on average; with it, or with
            "bytes" beside, scores are in bits/byte, else in bits/token.
        stride: from window to window; 0 is `length`, so that each token is predicted once.
        beside: which of BESIDE the source stores.
    """
    arrays = {"tokens": Column((length + 1,), np.int32, "tokens")}
    for name in beside:
        arrays[name] = Column((length,), BESIDE[name], name, first=int(name in PREDICTED))
    return {
        "length": length,
        "vocab_size": vocab_size,
        "bytes_per_token": bytes_per_token,
        "stride": stride or length,
        "unit": "tokens",
        "amount": length,
        "arrays": arrays,
    }


def sound(length: int, vocab_size: int, text: int) -> Spec:
    """Return the spec of sounds that are stored one a row, with what is said in each.

    Example i is int32 "tokens" [length + 1], the first only read, and uint8 "text" [text].
    """
    return {
        "length": length,
        "vocab_size": vocab_size,
        "unit": "tokens",
        "amount": length,
        "arrays": {
            "tokens": Column((length + 1,), np.int32, "tokens"),
            "text": Column((text,), np.uint8, "text"),
        },
    }


def images(
    shape: tuple[int, ...],
    class_names: Sequence[str],
    *,
    discrete: bool = True,
    levels: int = 256,
    label: str = "",
) -> Spec:
    """Return the spec of labelled images: "image" [height, width, channels] and "label" int32 [].

    Args:
        shape: (height, width, channels).
        discrete: whether they are whole numbers, uint8; else they are float32.
        levels: how many of these there are, from 0 on.
        label: the name of the stored labels, "label" by default.
    """
    return {
        "shape": tuple(shape),
        "num_classes": len(class_names),
        "class_names": list(class_names),
        "discrete": discrete,
        "levels": levels if discrete else 0,
        "unit": "images",
        "amount": 1,
        "arrays": {
            "image": Column(tuple(shape), np.uint8 if discrete else np.float32, "image"),
            "label": Column((), np.int32, label or "label"),
        },
    }


def batch_shapes(spec: Spec, batch_size: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return {name: (shape, dtype)} of the arrays of one batch, as `Source.gather` gives them."""
    return {
        name: ((batch_size, *column.shape), column.dtype) for name, column in spec["arrays"].items()
    }


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a data set, with random access to its examples.

    Attributes:
        split: "train", "validation" or "test".
        arrays: what is stored, by its name in a batch: streams [tokens], or [examples, ...].
        spec: what an example is made of (`text`, `images`), with "unique".
        fingerprint: sha256 of the content of all splits of the data set.
        floor: what no model can beat, {"value", "unit", "kind", "source"}, where it is known.
        tokenizer: that made the tokens, {"kind", "vocab", "sha256", "key"}, where one was trained.
        taken: which of the examples that are stored are in it, [examples]; None for all.
        spent: FLOPs that making the data took, by what took them, where a network made them.
    """

    split: str
    arrays: dict[str, NDArray[Any]]
    spec: Spec
    fingerprint: str
    floor: dict[str, Any] | None = None
    tokenizer: dict[str, Any] | None = None
    taken: NDArray[np.integer] | None = None
    spent: dict[str, int] | None = None

    @functools.cached_property
    def _examples(self) -> dict[str, NDArray[Any]]:
        """Each array over all stored examples, [examples, *shape], without a copy."""
        if "stride" not in self.spec:
            return self.arrays
        stride, windows = self.spec["stride"], {}
        count = _fitting(len(self.arrays["tokens"]), self.spec)
        for name, column in self.spec["arrays"].items():
            stream = self.arrays[name][column.first :]
            step = stream.strides[0]
            windows[name] = np.lib.stride_tricks.as_strided(
                stream, (count, *column.shape), (stride * step, step), writeable=False
            )
        return windows

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.spec["unique"] // self.spec["amount"]

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """Return one example; see its spec for the shapes."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return {key: value[0] for key, value in self.gather([index]).items()}

    def gather(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, NDArray[Any]]:
        """Return the examples `indices` ([batch]) stacked along a new first axis."""
        rows, columns = np.asarray(indices), self.spec["arrays"]
        if self.taken is not None:
            rows = self.taken[rows]
        return {
            name: examples[rows].astype(columns[name].dtype, copy=False)
            for name, examples in self._examples.items()
        }


def open_split(
    split: str,
    stored: dict[str, NDArray[Any]],
    spec: Spec,
    fingerprint: str,
    floor: dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = None,
) -> Source:
    """Return the split whose `stored` arrays are to be read as `spec` says.

    Raises:
        UserError: when an array is missing, holds no tokens or has another shape, or the split is
            shorter than one window.
    """
    arrays = {}
    for name, column in spec["arrays"].items():
        if column.stored not in stored:
            raise UserError(
                f"the {split} split has no array {column.stored!r}; it has {', '.join(stored)}"
            )
        arrays[name] = stored[column.stored]
    count = _windows(split, arrays, spec) if "stride" in spec else _rows(split, arrays, spec)
    spec = {**spec, "unique": count * spec["amount"]}
    return Source(split, arrays, spec, fingerprint, floor, tokenizer)


def rows(split: str, arrays: dict[str, NDArray[Any]]) -> Source:
    """Return a source of examples that lie in memory: `arrays` are [examples, ...], all as long."""
    columns = {name: Column(each.shape[1:], each.dtype, name) for name, each in arrays.items()}
    digest = hashlib.sha256(b"".join(each.tobytes() for each in arrays.values())).hexdigest()
    return open_split(split, arrays, {"unit": "examples", "amount": 1, "arrays": columns}, digest)


def _rows(split: str, arrays: dict[str, NDArray[Any]], spec: Spec) -> int:
    """The number of rows, which all arrays have."""
    count = len(next(iter(arrays.values())))
    for name, column in spec["arrays"].items():
        if arrays[name].shape != (count, *column.shape):
            raise UserError(
                f"the {split} split holds {name} {list(arrays[name].shape)}; expected"
                f" {[count, *column.shape]}"
            )
    return count


def _windows(split: str, arrays: dict[str, NDArray[Any]], spec: Spec) -> int:
    """The number of whole windows in streams of one length."""
    tokens, length = arrays["tokens"], spec["length"]
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise UserError(
            f"the {split} split holds {tokens.dtype} {list(tokens.shape)}; tokens are integers "
            "in one row"
        )
    for name, array in arrays.items():
        if array.shape != tokens.shape:
            raise UserError(
                f"the {split} split holds {name} {list(array.shape)} beside {len(tokens)} tokens;"
                " there must be one for each"
            )
    if len(tokens) < length + 1:
        raise UserError(
            f"data.length is {length}, longer than the {split} split of {len(tokens)} tokens"
            f" (longest: {len(tokens) - 1})"
        )
    return _fitting(len(tokens), spec)


def _fitting(tokens: int, spec: Spec) -> int:
    """How many windows of a spec, and the token after each, are in so many tokens."""
    return (tokens - spec["length"] - 1) // spec["stride"] + 1


def cut(source: Source, unique: int) -> Source:
    """Return `source`, of the train split, with at most `unique` tokens or images; 0 is all.

    They are whole examples from anywhere in it, the same for every seed of a run, and a smaller cut
    is part of a larger one: so that what a run repeats is like what it is scored on. Other splits
    come back as they are.

    Raises:
        UserError: when there are not so many.
    """
    if not unique or source.split != "train":
        return source
    if unique > source.spec["unique"]:
        raise UserError(
            f"data.unique is {unique}; the train split has {source.spec['unique']} "
            f"{source.spec['unit']}, and 0 takes them all"
        )
    amount = source.spec["amount"]
    order = np.random.Generator(np.random.Philox(0)).permutation(len(source))
    taken = order[: unique // amount]
    spec = {**source.spec, "unique": len(taken) * amount}
    return dataclasses.replace(source, spec=spec, taken=taken)
