"""How much of the held-out text a model has read in training: runs of words that occur in both.

The rule is that of GPT-3 (Brown et al. 2020, appendix C): a held-out document is touched when a
run of 13 words of it occurs in the training text. Words and marks are those of
`research.data.duplicates`, so that a run depends neither on blanks nor on a tokenizer; in source
code it is a line or two, and many files share one. Training text is read once and not
kept; runs are told apart by 64-bit hashes, of which 1e9 in training meet one of 1e6 by chance
with a probability of 5e-5.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data import duplicates, sources, texts
from research.data.settings import Config, check
from research.errors import UserError

WORDS = 13


class Overlap(NamedTuple):
    """Held-out text against training text.

    Attributes:
        documents: held out.
        touched: of them, how many share a run of words with the training text.
        words: of the held-out documents.
        covered: of them, how many lie in a run that occurs in the training text.
    """

    documents: int
    touched: int
    words: int
    covered: int

    def __str__(self) -> str:
        documents, words = self.touched / max(1, self.documents), self.covered / max(1, self.words)
        return (
            f"{documents:.1%} of {self.documents:,} documents share {WORDS} words in a row with"
            f" train, and {words:.2%} of {self.words:,} words lie in such a run"
        )


def check_text(data: Config) -> None:
    """Raise UserError for data that are no text, which have no words to compare."""
    source = sources.load(data["name"])
    if not hasattr(source, "sound") and not hasattr(source, "documents"):
        raise UserError(f"data.name is {data['name']!r}, which is no source of text")


def of(data: Config, split: str = "validation") -> Overlap:
    """Return how much of a `split` of the text `data` occurs in its training text.

    Raises:
        UserError: when they are no text, or cannot be read.
    """
    check_text(data)
    checked, source = check(data), sources.load(data["name"])

    def read(wanted: str) -> Iterator[bytes]:
        if hasattr(source, "sound"):
            found = source.sound(checked)
        else:
            found = texts.sound(checked, source.documents, {})
        return (text for part, text in found if part == wanted)

    return overlap(read(split), read("train"))


def overlap(held_out: Iterable[bytes], train: Iterable[bytes], size: int = WORDS) -> Overlap:
    """Return how much of the `held_out` documents occurs in those of `train`.

    Args:
        held_out: whose runs of words are kept in memory, 8 bytes a word.
        train: read once, one after another.
        size: words of a run; a document of fewer is one run, which only its like has.
    """
    counts, runs = [], []
    for text in held_out:
        counts.append(len(duplicates.WORDS.findall(text)))
        runs.append(duplicates.runs(text, size))
    known = np.unique(np.concatenate([np.zeros(0, np.uint64), *runs]))
    seen = np.zeros(len(known), bool)
    for text in train:
        found = duplicates.shingles(text, size)
        place = np.minimum(np.searchsorted(known, found), max(0, len(known) - 1))
        seen[place[known[place] == found] if len(known) else []] = True
    hits = [seen[np.searchsorted(known, each)] for each in runs]
    covered = [_covered(hit, size)[:count] for hit, count in zip(hits, counts, strict=True)]
    return Overlap(
        documents=len(runs),
        touched=sum(bool(hit.any()) for hit in hits),
        words=sum(counts),
        covered=sum(int(each.sum()) for each in covered),
    )


def _covered(hit: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Which words lie in a run that was hit, bool [runs + size - 1]."""
    change = np.zeros(len(hit) + size, np.int64)
    np.add.at(change, np.flatnonzero(hit), 1)
    np.add.at(change, np.flatnonzero(hit) + size, -1)
    return np.cumsum(change)[:-1] > 0
