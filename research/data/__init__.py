"""Data: prepared once, memory-mapped, fingerprinted; batch k is a function of (seed, k).

data = default("python_stdlib")
source = load(data, "train")
for batch in batches(source, batch_size=32, seed=0): ...
"""

from typing import Any

from research.data.gaussian_mixture import log_density
from research.data.outline import batch_shapes, outline
from research.data.pipeline import batches, eval_batches
from research.data.settings import SPLITS, Config, check, default, names
from research.data.source import Source
from research.errors import UserError, nearest

__all__ = [
    "SPLITS",
    "Source",
    "batch_shapes",
    "batches",
    "check",
    "default",
    "describe",
    "eval_batches",
    "fingerprint",
    "load",
    "log_density",
    "names",
    "outline",
]


def load(data: Config, split: str, verify: bool | None = None) -> Source:
    """Return one split, preparing the data set first when its folder does not have it yet.

    Args:
        data: a config with every key of `default(data["name"])`.
        split: "train", "validation" or "test".
        verify: whether to hash the arrays; by default only those up to 64 MiB are.

    Raises:
        UserError: a wrong key or value, a folder that cannot be written, data that cannot be
            had here, a damaged file, or a window longer than the split.
    """
    from research.data import prepare, source

    if split not in SPLITS:
        raise UserError(f"split {split!r} is not train, validation or test{nearest(split, SPLITS)}")
    checked = check(data)
    pack = prepare.prepare(checked)
    arrays, meta = pack.arrays(split, verify), pack.meta
    if meta["kind"] == "text":
        chain = checked["name"] == "markov"  # its windows are independent draws
        vocab_size = checked["vocab_size"] if chain else meta.get("vocab_size", 256)  # bytes
        arrays, spec = source.text(
            arrays["tokens"],
            split,
            length=checked["length"],
            vocab_size=vocab_size,
            unit="bits/token" if chain or vocab_size > 256 else "bits/byte",
            stride=checked["length"] + 1 if chain else checked["length"],
        )
    else:
        label = checked.get("label", "label")
        class_names = meta["class_names"]
        class_names = class_names[label] if isinstance(class_names, dict) else class_names
        arrays, spec = source.images(arrays["image"], arrays[label], class_names)
    return Source(meta["kind"], split, arrays, spec, meta["fingerprint"], meta.get("floor"))


def fingerprint(data: Config) -> str:
    """Return the sha256 of the content of all splits, preparing the data set when needed."""
    from research.data import prepare

    return prepare.prepare(check(data)).meta["fingerprint"]


def describe(data: Config, verify: bool = True) -> dict[str, Any]:
    """Return {"name", "kind", "folder", "fingerprint", "floor", "splits"} of a data set.

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
        "kind": pack.meta["kind"],
        "folder": str(pack.folder),
        "fingerprint": pack.meta["fingerprint"],
        "floor": pack.meta.get("floor"),
        "splits": {
            split: {"examples": len(each), "unique": each.spec["unique"]}
            for split, each in loaded.items()
        },
    }
