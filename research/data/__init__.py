"""Data: prepared once, memory-mapped, fingerprinted; batch k is a function of (seed, k).

data = default("python_stdlib")
source = load(data, "train")
for batch in batches(source, batch_size=32, seed=0): ...
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import sources, tokenizers
from research.data.mixing import tally
from research.data.pipeline import batches, eval_batches
from research.data.settings import SPLITS, Config, check, data_folder, default, known, names
from research.data.source import Source, batch_shapes, cut, open_split
from research.errors import UserError, nearest

__all__ = [
    "SPLITS",
    "Source",
    "batch_shapes",
    "batches",
    "beginnings",
    "bytes_per_token",
    "check",
    "default",
    "describe",
    "eval_batches",
    "fingerprint",
    "known",
    "load",
    "names",
    "outline",
    "shown",
    "spells_bytes",
    "tally",
    "tokenizer",
    "vocab_size",
]


def outline(data: Config) -> dict[str, Any]:
    """Return `Source.spec` without what only the data can tell: nothing is prepared for it.

    Raises:
        UserError: a wrong key or value, or TFDS images whose size needs data.resolution.
    """
    return sources.load(data["name"]).outline(check(data))


def bytes_per_token(data: Config) -> float | None:
    """Return how many bytes of text a token of `data` spells on average, None if it spells none.

    It reads neither data.folder nor data.seed, so that a compiled program may ask.
    """
    return sources.load(data["name"]).outline(data).get("bytes_per_token")


def spells_bytes(data: Config) -> bool:
    """Whether tokens of `data` spell known numbers of bytes, on average or each its own."""
    spec = sources.load(data["name"]).outline(data)
    return bool(spec.get("bytes_per_token")) or "bytes" in spec["arrays"]


def vocab_size(data: Config) -> int | None:
    """Return how many tokens `data` have; None where their source is neither text nor here."""
    if "tokenizer" in data:
        from research.data import texts

        return texts.vocab_size(data)
    return (
        sources.load(data["name"]).outline(data).get("vocab_size") if known(data["name"]) else None
    )


def beginnings(data: Config, texts: Sequence[str] = ()) -> NDArray[np.integer] | None:
    """Tokens [N, G] of `texts`, by default of all there may be, where each example begins with one.

    None where examples of `data` begin with no text.
    """
    source = sources.load(data["name"])
    return source.beginnings(data, texts) if hasattr(source, "beginnings") else None


def shown(data: Config, samples: NDArray[Any]) -> NDArray[Any]:
    """What `samples`, as a family that learns `data` draws them, stand for: images of latents."""
    source = sources.load(data["name"])
    return source.shown(data, samples) if hasattr(source, "shown") else samples


def tokenizer(data: Config) -> tokenizers.Tokenizer | None:
    """Return what encodes and decodes the text of `data`; None where they are no text.

    It has encode(bytes) -> int32 tokens, decode(tokens) -> bytes, vocab_size, and `lengths`, the
    bytes that each token spells. What is not there yet is prepared.

    Raises:
        UserError: as `load` does.
    """
    from research.data import prepare

    checked = check(data)
    if "tokenizer" not in checked or checked["tokenizer"] == tokenizers.BYTE:
        return tokenizers.Bytes() if "tokenizer" in checked else None
    about = prepare.prepare(checked).meta["tokenizer"]
    return tokenizers.kept(data_folder(checked), about)


def load(data: Config, split: str, verify: bool | None = None) -> Source:
    """Return one split, preparing the data set first when its folder does not have it yet.

    Args:
        data: a config with every key of `default(data["name"])`.
        split: "train", "validation" or "test".
        verify: whether to hash the arrays; by default only those up to 64 MiB are.

    Raises:
        UserError: a wrong key or value, a folder that cannot be written, data that cannot be
            had here, a damaged file, tokens outside the vocabulary, or a window longer than the
            split.
    """
    from research.data import prepare

    if split not in SPLITS:
        raise UserError(f"split {split!r} is not train, validation or test{nearest(split, SPLITS)}")
    checked = check(data)
    pack = prepare.prepare(checked)
    spec, arrays = sources.load(checked["name"]).outline(checked), pack.arrays(split, verify)
    if "vocab_size" in spec and pack.meta.get("vocab_size", 0) > spec["vocab_size"]:
        raise UserError(
            f"{pack.folder} holds token {pack.meta['vocab_size'] - 1}, which is outside the"
            f" {spec['vocab_size']} symbols of data.name={checked['name']!r}"
        )
    module = sources.load(checked["name"])
    if hasattr(module, "view"):
        return module.view(split, arrays, spec, checked, pack.meta)
    about = (pack.meta.get("floor"), pack.meta.get("tokenizer"))
    found = open_split(split, arrays, spec, pack.meta["fingerprint"], *about)
    return cut(found, checked.get("unique", 0))


def fingerprint(data: Config) -> str:
    """Return the sha256 of the content of all splits, preparing the data set when needed."""
    from research.data import prepare

    return prepare.prepare(check(data)).meta["fingerprint"]


def describe(data: Config, verify: bool = True) -> dict[str, Any]:
    """Return {"name", "folder", "fingerprint", "floor", "dropped", "splits"} of a data set.

    `dropped` is how many documents of text were left out, by the reason.
    Each split has "examples" and "unique" (predicted tokens, or images). Every array is hashed
    unless `verify` is false.

    Raises:
        UserError: as `load` does.
    """
    from research.data import prepare

    pack = prepare.prepare(check(data))
    loaded = {split: load(data, split, verify) for split in pack.meta["splits"]}
    return {
        "name": data["name"],
        "folder": str(pack.folder),
        "fingerprint": pack.meta["fingerprint"],
        "floor": pack.meta.get("floor"),
        "dropped": pack.meta.get("dropped", {}),
        "splits": {
            split: {"examples": len(each), "unique": each.spec["unique"]}
            for split, each in loaded.items()
        },
    }
