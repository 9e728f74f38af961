"""What all sources of text share: documents become one stream of tokens, each ended by a separator.

A text source is a module with

    DEFAULTS -> its own keys; those of DEFAULTS here come before them
    documents(data) -> iterator of (split, bytes of a document), in the same order every time

and whatever else a source may have (`research.data.sources`). Of `identity` and `words` it gives
its own part, what decides the documents; by default that is every key of its own.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from research.data import source
from research.data.pack import Writer
from research.data.settings import Config, check_least

DEFAULTS = {"length": 128}

Documents = Callable[[Config], Iterator[tuple[str, bytes]]]


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
        if hasattr(self.module, "identity"):
            return self.module.identity(data)
        return {key: data[key] for key in self.module.DEFAULTS}


def check(data: Config) -> None:
    """Raise UserError for windows of no length."""
    check_least(data, "length")


def outline(data: Config) -> source.Spec:
    """Documents as bytes; each ends with a 0."""
    return source.text(data["length"], 256, bytes_per_token=1)


def fill(writer: Writer, data: Config, documents: Documents) -> None:
    """Write the tokens of every document, in the order that `documents` gives them."""
    for split, text in documents(data):
        writer.append(split, "tokens", np.frombuffer(text + b"\0", np.uint8))
