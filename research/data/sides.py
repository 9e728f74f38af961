"""Which split a document belongs to, when nothing but its name says so."""

import hashlib
from collections.abc import Callable, Iterable, Iterator

from research.data import duplicates

_COMPARED: dict[str, list[str]] = {}  # the split of each document, by `known`


def side(key: str) -> str:
    """Return the split that `key` belongs to: 90% train, 5% validation, 5% test, by sha256."""
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "train" if position < 0.9 else "validation" if position < 0.95 else "test"


def sided(
    documents: Callable[[], Iterable[tuple[str | None, bytes]]],
    together: bool = True,
    side: Callable[[str], str] = side,
    known: str = "",
) -> Iterator[tuple[str | None, bytes]]:
    """Yield (split, text) of every document in its order.

    Args:
        documents: gives all (key, text) each time it is called: once to compare, once to read.
            One without a key is left out and has none.
        together: near-duplicates are all on the side of the first of them.
        side: the split of a key.
        known: tells these documents from all others, where they are large: a tokenizer reads them
            three times, and they are compared once in a process.
    """
    sides = _COMPARED.get(known, [])

    def texts() -> Iterator[bytes]:
        for key, text in documents():
            if key is not None:
                sides.append(side(key))
                yield text

    if together and not sides:
        firsts = duplicates.groups(texts())
        sides = [sides[first] for first in firsts]
        if known:
            _COMPARED[known] = sides
    placed = iter(sides)
    for key, text in documents():
        yield (None if key is None else next(placed) if together else side(key)), text
