"""What all sources of text share: documents become one stream of tokens, each ended by a separator.

A text source is a module with

    DEFAULTS -> its own keys; those of DEFAULTS here come before them
    documents(data) -> iterator of (split, bytes of a document), in the same order every time; what
        stands where a document should and is left out is (None, why), and is counted

and whatever else a source may have (`research.data.sources`). Of `identity` and `words` it gives
its own part, what decides the documents; by default that is every key of its own.

Beside the tokens of a trained tokenizer lies how many bytes each spells, so that a score in bits
a byte is exact. A separator is token 0 and counts as one byte under every tokenizer: a data set
has as many bytes whatever its tokens are. Of bytes it is the byte 0, and one that stands within a
document reads as a separator, too; a trained tokenizer tells them apart.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from research.data import filters, source, tokenizers
from research.data.pack import Writer
from research.data.settings import Config, check_least, data_folder
from research.errors import UserError

# tokenizer: byte, bpe, wordpiece, unigram or the path of a tokenizer.json; vocab: its size, the
# separator among it, which "byte" does not read.
# filters: which documents are left out (`research.data.filters`), in this order.
# unique: how many tokens of the train split are read, again and again; 0: all (`source.cut`).
DEFAULTS = {"length": 128, "tokenizer": "byte", "vocab": 4096, "filters": (), "unique": 0}
AT_ONCE = 2**22  # bytes of documents that are encoded together

Documents = Callable[[Config], Iterator[tuple[str | None, bytes]]]


class TextSource:
    """A text source's module, completed to the protocol of `research.data.sources`."""

    def __init__(self, module: ModuleType):
        self.module = module
        self.DEFAULTS = {**DEFAULTS, **module.DEFAULTS}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def check(self, data: Config) -> None:
        check(data)
        if hasattr(self.module, "check"):
            self.module.check(data)

    def outline(self, data: Config) -> source.Spec:
        return outline(data)

    def fill(self, writer: Writer, data: Config) -> None:
        fill(writer, data, self.module.documents)

    def identity(self, data: Config) -> dict[str, Any]:
        own = {key: data[key] for key in self.module.DEFAULTS}
        if hasattr(self.module, "identity"):
            own = self.module.identity(data)
        return {**own, **identity(data)}

    def words(self, identity: dict[str, Any]) -> list[str]:
        own = self.module.words(identity) if hasattr(self.module, "words") else []
        return [*own, *tokenizers.words(identity)]


def check(data: Config) -> None:
    """Raise UserError for windows of no length, for none of them, or a tokenizer that cannot be."""
    check_least(data, "length")
    if data["unique"] and data["unique"] < data["length"]:
        raise UserError(
            f"data.unique is {data['unique']}; expected 0, for all tokens, or a window of "
            f"{data['length']} of them at least"
        )
    tokenizers.check(data)
    filters.check(data["filters"])


def identity(data: Config) -> dict[str, Any]:
    """What decides, with a source's documents, what is in a pack."""
    chosen = {"filters": list(data["filters"])} if data["filters"] else {}
    return {**chosen, **tokenizers.identity(data)}


def sound(
    data: Config, documents: Documents, dropped: dict[str, int]
) -> Iterator[filters.Document]:
    """Yield (split, text) of the documents that data.filters leave, and count the others."""
    return filters.kept(lambda: documents(data), data["filters"], dropped)


def vocab_size(data: Config) -> int:
    """How many tokens there are at most, by the settings alone."""
    return tokenizers.Bytes.vocab_size if data["tokenizer"] == tokenizers.BYTE else data["vocab"]


def outline(data: Config) -> source.Spec:
    """Tokens of documents; each ends with a 0."""
    if data["tokenizer"] == tokenizers.BYTE:
        return source.text(data["length"], vocab_size(data), bytes_per_token=1)
    return source.text(data["length"], vocab_size(data), beside=("bytes",))


def fill(writer: Writer, data: Config, documents: Documents) -> None:
    """Write the tokens of every document, in the order that `documents` gives them."""
    dropped: dict[str, int] = {}

    def training() -> Iterator[bytes]:
        return (text for split, text in sound(data, documents, {}) if split == "train")

    write(writer, sound(data, documents, dropped), trained(writer, data, training))
    if dropped:
        writer.facts["dropped"] = dropped
    if not writer.open:
        counts = ", ".join(f"{why} {count}" for why, count in dropped.items()) or "there was none"
        raise UserError(f"no document of {data['name']} is left (dropped: {counts})")


def trained(writer: Writer, data: Config, training: tokenizers.Texts) -> tokenizers.Tokenizer:
    """Return the tokenizer of `data`, trained on `training` where it is not there yet."""
    if data["tokenizer"] == tokenizers.BYTE:
        return tokenizers.Bytes()
    found, writer.facts["tokenizer"] = tokenizers.ensure(data_folder(data), data, training)
    return found


def write(
    writer: Writer, documents: Iterator[filters.Document], tokenizer: tokenizers.Tokenizer
) -> None:
    """Write the tokens of `documents`, each ended by a separator, one batch of them at a time."""
    if isinstance(tokenizer, tokenizers.Bytes):
        for split, text in documents:
            writer.append(split, "tokens", np.frombuffer(text + b"\0", np.uint8))
        return
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    for split, texts in _together(documents):
        for tokens in tokenizer.encode_all(texts):
            ended = np.append(tokens, 0)
            writer.append(split, "tokens", ended.astype(dtype))
            writer.append(split, "bytes", tokenizer.lengths[ended])


def _together(documents: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, list[bytes]]]:
    """Neighbouring documents of one split, up to AT_ONCE bytes of them or one more."""
    current, texts, size = "", [], 0
    for split, text in documents:
        if texts and (split != current or size >= AT_ONCE):
            yield current, texts
            texts, size = [], 0
        current, size = split, size + len(text)
        texts.append(text)
    if texts:
        yield current, texts
