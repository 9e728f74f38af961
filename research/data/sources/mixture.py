"""Several sources of text in one data set, drawn by weights that may change along a run.

All have one tokenizer, which is trained on the mixture at its first weights. Which source an
example comes from is a function of seed and step (`research.data.mixing`), and a source has its
own shuffled passes. Weights decide nothing that is prepared, unless a tokenizer is trained: a
sweep over them reads one pack.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from research.data import mixing, settings, source, sources, texts, tokenizers
from research.data.pack import Writer
from research.data.settings import Config
from research.errors import UserError
from research.run.alone import lock

# sources: names of sources of text, or labels that `own` explains: own={"prose": {"name": "files",
#     "path": "books"}}. The keys of an entry of `own` are those of its source.
# weights_end: () for the same; curriculum: the steps between which weights go from one to the
#     other in a straight line, at once if they are equal.
# validation_weights: of the validation and test splits; () for the weights at the end.
ON_REQUEST = True
DEFAULTS = {
    **texts.DEFAULTS,
    "sources": ("python_stdlib", "cpp_headers"),
    "weights": (0.7, 0.3),
    "weights_end": (),
    "curriculum": (0, 0),
    "validation_weights": (),
    "own": {},
}
SHARED = ("length", "tokenizer", "vocab", "folder")


def check(data: Config) -> None:
    """Raise UserError for sources that are no text or named twice, and for weights of others."""
    texts.check(data)
    labels, own = data["sources"], data["own"]
    for key, keys in own.items():
        if key not in labels:
            raise UserError(f"data.own: {key!r} is not one of data.sources, {', '.join(labels)}")
        if not isinstance(keys, Mapping | ConfigDict):
            raise UserError(f"data.own: {key!r} is {keys!r}; expected the keys of a source")
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"data.sources names {twice[0]!r} twice; a label of data.own may name it")
    for key in ("weights", "weights_end", "validation_weights"):
        if data[key] or key == "weights":
            mixing.check_weights(f"data.{key}", data[key], len(labels))
    steps = data["curriculum"]
    if (
        len(steps) != 2
        or not all(type(step) is int for step in steps)
        or not (0 <= steps[0] <= steps[1])
    ):
        raise UserError(f"data.curriculum is {steps}; expected two steps, the first not later")
    for label in labels:
        component(data, label)


def component(data: Config, label: str) -> dict[str, Any]:
    """Return the checked config of the source `label` of a mixture.

    Raises:
        UserError: for a source that is no text, or a key that is not its own.
    """
    given = dict(data["own"].get(label, {}))
    name = given.pop("name", label)
    try:
        if not isinstance(name, str) or not hasattr(sources.load(name), "documents"):
            raise UserError(f"{name!r} is no source of text that gives documents")
        if shared := [key for key in SHARED if key in given]:
            raise UserError(f"data.{shared[0]} is that of the whole mixture")
        common = {key: data[key] for key in texts.DEFAULTS}
        folder = {"folder": data["folder"], "name": name}
        return settings.check({**settings.default(name), **common, **given, **folder})
    except UserError as error:
        raise UserError(f"source {label!r} of the mixture: {error}") from error


def outline(data: Config) -> source.Spec:
    """Tokens of documents, and which source an example is of."""
    return mixing.outline(texts.outline(data), data["sources"])


def identity(data: Config) -> dict[str, Any]:
    """The sources in their order; the weights too where a tokenizer is trained by them."""
    made = [
        [label, sources.load(each["name"]).identity(each)]
        for label in data["sources"]
        for each in [component(data, label)]
    ]
    learned = tokenizers.identity(data)
    weights = {"weights": list(data["weights"])} if "kind" in learned.get("tokenizer", {}) else {}
    return {"sources": made, **weights, **learned}


def words(identity: dict[str, Any]) -> list[str]:
    """The labels of its sources, and the tokenizer."""
    return [*(label for label, _ in identity["sources"]), *tokenizers.words(identity)]


def sound(data: Config) -> Iterator[tuple[str, bytes]]:
    """Yield (split, text) of all documents that filters leave, one source after another."""
    for label in data["sources"]:
        yield from _sound(component(data, label), {})


def _sound(each: dict[str, Any], dropped: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """The documents of a source that its filters leave; whoever prepares it alone waits."""
    name, folder = each["name"], settings.data_folder(each)
    with lock(folder, name.partition("/")[0], f"preparing {name}"):
        yield from texts.sound(each, sources.load(name).documents, dropped)


def fill(writer: Writer, data: Config) -> None:
    """Write the documents of one source after another, and where each one's tokens end."""
    tokenizer = texts.trained(writer, data, lambda: _training(data))
    ends: list[dict[str, int]] = []
    for label in data["sources"]:
        dropped: dict[str, int] = {}
        texts.write(writer, _sound(component(data, label), dropped), tokenizer)
        ends.append({split: array["shape"][0] for (split, name), array in writer.open.items()})
        for why, count in dropped.items():
            writer.facts.setdefault("dropped", {})[f"{label}: {why}"] = count
    writer.facts["sources"] = {
        split: np.diff([each.get(split, 0) for each in ends], prepend=0).tolist()
        for split in ends[-1]
    }


def _training(data: Config) -> Iterator[bytes]:
    """Documents of train in the proportions of data.weights, as many as no source repeats."""

    def train(label: str) -> Iterator[bytes]:
        return (t for split, t in _sound(component(data, label), {}) if split == "train")

    shares = dict(zip(data["sources"], data["weights"], strict=True))
    shares = {label: share for label, share in shares.items() if share}
    sizes = {label: sum(map(len, train(label))) for label in shares}
    most = min(sizes[label] / share for label, share in shares.items())
    for label, share in shares.items():
        size = 0
        for text in train(label):
            if size >= most * share:
                break
            size += len(text)
            yield text


def view(
    split: str, arrays: dict[str, NDArray[Any]], spec: source.Spec, data: Config, meta: dict
) -> source.Source:
    """Return one split of the mixture, whose sources follow one another in its arrays.

    Raises:
        UserError: when a source has less than a window of it.
    """
    sizes = meta.get("sources", {}).get(split, [])
    if len(sizes) != len(data["sources"]) or sum(sizes) != len(arrays["tokens"]):
        raise UserError(
            f"the prepared mixture does not say whose its {split} tokens are; delete it"
        )
    inner = texts.outline(data)
    about = (meta["fingerprint"], None, meta.get("tokenizer"))
    parts = []
    for label, size, end in zip(data["sources"], sizes, accumulate(sizes), strict=True):
        own = {name: array[end - size : end] for name, array in arrays.items()}
        unique = component(data, label)["unique"]
        try:
            parts.append(source.cut(source.open_split(split, own, inner, *about), unique))
        except UserError as error:
            raise UserError(f"source {label!r} of the mixture: {error}") from error
    last = data["weights_end"] or data["weights"]
    mix = mixing.Mix(data["weights"], last, data["curriculum"])
    return mixing.mixed(arrays, parts, spec, mix, data["validation_weights"] or last)
