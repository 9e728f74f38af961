"""Tokenizers, by name or by file: `data.tokenizer` of every source of text.

"byte" is each byte as it is. Any other kind is a module with

    train(texts, vocab) -> a tokenizer of the `tokenizers` library over bytes, of at most `vocab`
        tokens, the same every time from the same texts (`byte_level.fit`)

whose file, tokenizer.json, is kept below the data folder and named in packs and in provenance. Or
data.tokenizer is the path of such a file, made here or elsewhere.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from research import parts
from research.data.settings import Config
from research.data.tokenizers.byte_level import Bytes, Subwords, Tokenizer, read
from research.errors import UserError, nearest
from research.run import storage
from research.run.alone import lock

__all__ = ["Bytes", "Subwords", "Tokenizer", "read"]

Texts = Callable[[], Iterator[bytes]]  # the same ones each time
BYTE = "byte"
KINDS = {
    "bpe": "research.data.tokenizers.bpe",
    "wordpiece": "research.data.tokenizers.wordpiece",
    "unigram": "research.data.tokenizers.unigram",
}
FILE = "tokenizer.json"
VERSION = 1  # raised when one is trained in another way on the same text
LEAST = 257  # bytes and the separator


def is_file(kind: str) -> bool:
    """Whether data.tokenizer is the path of a tokenizer's file."""
    return kind.endswith(".json")


def check(data: Config) -> None:
    """Raise UserError for a kind, a size or a file that cannot be."""
    kind, vocab = data["tokenizer"], data["vocab"]
    if kind == BYTE:
        return
    if is_file(kind):
        size = read(kind).vocab_size
        if vocab != size:
            raise UserError(f"data.vocab is {vocab}; {kind} has {size} tokens: set it to {size}")
        return
    _kind(kind)
    if not LEAST <= vocab < 2**24:
        raise UserError(
            f"data.vocab is {vocab}; {kind!r} has at least {LEAST} tokens, all bytes and the "
            f"separator, and fewer than {2**24}"
        )


def _kind(kind: str) -> ModuleType:
    if kind not in KINDS and "." not in kind:
        known = (BYTE, *KINDS)
        raise UserError(
            f"data.tokenizer is {kind!r}; expected {', '.join(known)} or the path of a "
            f"tokenizer.json{nearest(kind, known)}"
        )
    return parts.load("data.tokenizer", kind, KINDS, ("train",))


def home(folder: Path, key: str) -> Path:
    """The file of the tokenizer `key` below the data `folder`."""
    return folder / "tokenizers" / key / FILE


def identity(data: Config) -> dict[str, Any]:
    """What decides, with the documents, the tokens of a source."""
    kind = data["tokenizer"]
    if kind == BYTE:
        return {}
    if is_file(kind):
        return {"tokenizer": {"sha256": read(kind).sha256}}
    return {"tokenizer": {"kind": kind, "vocab": data["vocab"], "version": VERSION}}


def words(identity: dict[str, Any]) -> list[str]:
    """A word for the name of a pack of `identity`: bpe4096."""
    if "tokenizer" not in identity:
        return []
    about = identity["tokenizer"]
    return [f"{about['kind']}{about['vocab']}" if "kind" in about else about["sha256"][:10]]


def ensure(folder: Path, data: Config, texts: Texts) -> tuple[Subwords, dict[str, Any]]:
    """Return the tokenizer of `data`, trained on `texts` where `folder` does not have it.

    Args:
        folder: the data folder.
        texts: gives the documents of the train split.

    Returns:
        It, and what a pack says of it: {"kind", "vocab", "sha256", "key"}.
    """
    kind, vocab = data["tokenizer"], data["vocab"]
    if is_file(kind):
        content = read(kind).content
        key = f"file-{hashlib.sha256(content).hexdigest()[:16]}"
        kind, make = "file", lambda: content
    else:
        key = f"{kind.rpartition('.')[2]}{vocab}-{_digest(texts, kind, vocab)}"

        def make() -> bytes:
            return _kind(kind).train(texts(), vocab).to_str(pretty=True).encode()

    path = home(folder, key)
    if not path.exists():
        with lock(folder / "tokenizers", key, f"training the tokenizer {key}"):
            if not path.exists():
                storage.write(path, make())
    found = read(path)
    if found.vocab_size != vocab:
        size = found.vocab_size
        raise UserError(
            f"data.vocab is {vocab}; the text of {data['name']} is enough for {size} tokens of "
            f"{kind!r}: set it to {size}"
        )
    about = {"kind": kind, "vocab": found.vocab_size, "sha256": found.sha256, "key": key}
    return found, about


def _digest(texts: Texts, kind: str, vocab: int) -> str:
    """Sixteen digits of a hash of the texts and of what is learned of them."""
    found = hashlib.sha256(f"{kind} {vocab} {VERSION}\n".encode())
    for text in texts():
        found.update(f"{len(text)}\n".encode() + text)
    return found.hexdigest()[:16]


def kept(folder: Path, about: dict[str, Any]) -> Subwords:
    """Return the tokenizer that a pack below `folder` is made with, as the pack says.

    Raises:
        UserError: when it is gone, or is another one.
    """
    path = home(folder, about["key"])
    found = read(path)
    if found.sha256 != about["sha256"]:
        raise UserError(f"{path} is not the tokenizer of the data prepared with it (sha256)")
    return found
