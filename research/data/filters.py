"""Rules of quality: which documents are left out of a corpus, and how many each rule dropped.

The rules are those of MassiveText (Rae et al. 2021, appendix A.1 and table A1) and, where a line
or an alphabet means something else in source code, of Codex (Chen et al. 2021, section 3.1). A
rule is a function of a document that says what is wrong with it: true drops the document. One rule
more, "near_duplicates", leaves the first of each group of them, whatever split the others are in.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from research.data import duplicates
from research.errors import UserError, nearest

STOP_WORDS = frozenset((b"the", b"be", b"to", b"of", b"and", b"that", b"have", b"with"))
LETTERS = (string.ascii_letters + string.digits).encode() + bytes(range(128, 256))
BULLETS = (b"*", b"-", "•".encode())
NEAR = "near_duplicates"  # of a document before: a rule of the whole corpus
Document = tuple[str, bytes]  # (split, text)


def short(text: bytes) -> bool:
    """Fewer than 50 words."""
    return len(text.split()) < 50


def long(text: bytes) -> bool:
    """More than 100,000 words."""
    return len(text.split()) > 100_000


def long_lines(text: bytes) -> bool:
    """Lines of more than 100 bytes on average, or one of more than 1,000 (Chen et al. 2021)."""
    sizes = [len(line) for line in text.splitlines()] or [0]
    return sum(sizes) / len(sizes) > 100 or max(sizes) > 1_000


def few_letters(text: bytes) -> bool:
    """Less than a quarter of the bytes are letters or digits (Chen et al. 2021).

    Bytes above 127 count as letters: they spell those of other alphabets.
    """
    return len(text.translate(None, LETTERS)) > 0.75 * len(text)


def few_words(text: bytes) -> bool:
    """More than a fifth of what stands between blanks has no letter in it."""
    found = text.split()
    letters = sum(re.search(rb"[A-Za-z\x80-\xff]", word) is not None for word in found)
    return letters < 0.8 * len(found)


def word_length(text: bytes) -> bool:
    """Words of fewer than 3 or more than 10 characters on average: no prose."""
    found = text.decode("utf-8", "replace").split()
    return bool(found) and not 3 <= sum(map(len, found)) / len(found) <= 10


def symbols(text: bytes) -> bool:
    """More than one hash sign or ellipsis for ten words: no prose."""
    marks = text.count(b"#") + text.count(b"...") + text.count("…".encode())
    return marks > 0.1 * len(text.split())


def bullets(text: bytes) -> bool:
    """More than 90% of the lines begin with a bullet."""
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(line.lstrip().startswith(BULLETS) for line in lines) > 0.9 * len(lines)


def cut_off(text: bytes) -> bool:
    """More than 30% of the lines end with an ellipsis."""
    lines = [line for line in text.splitlines() if line.strip()]
    ends = sum(line.rstrip().endswith((b"...", "…".encode())) for line in lines)
    return ends > 0.3 * len(lines)


def stop_words(text: bytes) -> bool:
    """Fewer than two of "the", "be", "to", "of", "and", "that", "have", "with": no English."""
    return sum(word in STOP_WORDS for word in text.lower().split()) < 2


def repeated_lines(text: bytes) -> bool:
    """More than 30% of the lines, or 20% of the bytes, are of lines that came before."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    spare = sum(map(len, lines)) - sum(map(len, set(lines)))
    return len(lines) - len(set(lines)) > 0.3 * len(lines) or spare > 0.2 * sum(map(len, lines))


def repeated_words(text: bytes) -> bool:
    """The most frequent four words in a row make up more than 16% of the bytes of all words."""
    words = text.split()
    runs = Counter(zip(*(words[start:] for start in range(4)), strict=False))
    if not runs:
        return False
    run, count = runs.most_common(1)[0]
    return count > 1 and count * sum(map(len, run)) > 0.16 * sum(map(len, words))


FILTERS: dict[str, Callable[[bytes], bool]] = {
    rule.__name__: rule
    for rule in (
        short, long, long_lines, few_letters, few_words, word_length,
        symbols, bullets, cut_off, stop_words, repeated_lines, repeated_words,
    )
}  # fmt: skip


def check(names: Sequence[str], key: str = "data.filters") -> None:
    """Raise UserError for a filter that is unknown (nearest named) or named twice."""
    known = (*FILTERS, NEAR)
    for name in names:
        if name not in known:
            raise UserError(
                f"{key}: {name!r} is not one of {', '.join(known)}{nearest(str(name), known)}"
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{key} names {twice!r} twice")


def kept(
    documents: Callable[[], Iterable[tuple[str | None, bytes]]],
    names: Sequence[str],
    dropped: dict[str, int],
) -> Iterator[Document]:
    """Yield those documents that no filter of `names` drops.

    Args:
        documents: gives all of them each time it is called; one without a split is left out, and
            its text says why.
        dropped: gets how many documents each reason dropped. The first filter that drops a
            document counts it, so that they add up; near-duplicates are looked for last.
    """
    dropped.clear()
    dropped.update(dict.fromkeys(names, 0))
    rules = [name for name in names if name != NEAR]
    firsts = None
    if NEAR in names:
        firsts = duplicates.groups(text for _, text in _kept(documents(), rules, Counter()))
    for number, (split, text) in enumerate(_kept(documents(), rules, dropped)):
        if firsts is None or firsts[number] == number:
            yield split, text
        else:
            dropped[NEAR] += 1


def _kept(
    documents: Iterable[tuple[str | None, bytes]], names: Sequence[str], dropped: dict[str, int]
) -> Iterator[Document]:
    for split, text in documents:
        why = text.decode() if split is None else next((n for n in names if FILTERS[n](text)), None)
        if why is not None:
            dropped[why] = dropped.get(why, 0) + 1
        elif split is not None:
            yield split, text
