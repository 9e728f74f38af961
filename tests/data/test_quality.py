"""Near-duplicates, filters of quality, and held-out text that was read in training."""

import random

import numpy as np
import pytest

from research.data import contamination, duplicates, filters
from research.errors import UserError

VOCABULARY = [f"word{i}" for i in range(400)]


def written(rng, count=150):
    return [rng.choice(VOCABULARY) for _ in range(count)]


def planted():
    """20 documents of which 5..9 are edited copies of 0..4, and 10 a copy of 5's edit."""
    rng = random.Random(0)
    texts = [written(rng) for _ in range(20)]
    for copy in range(5):
        texts[5 + copy] = [*texts[copy]]
        for place in rng.sample(range(150), 4):
            texts[5 + copy][place] = "edited"
    texts[10] = [*texts[5], "and", "an", "end"]
    return [" ".join(words).encode() for words in texts]


@pytest.mark.parametrize("exact", [True, False])
def test_planted_near_duplicates_are_found_exactly_and_by_sketches(monkeypatch, exact):
    if not exact:
        monkeypatch.setattr(duplicates, "EXACT_DOCUMENTS", 7)  # passed halfway
    found = duplicates.groups(iter(planted())).tolist()
    assert found == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, *range(11, 20)]


def test_the_size_decides_what_is_compared_exactly(monkeypatch):
    called = []
    monkeypatch.setattr(duplicates, "by_sketch", lambda texts, _: called.append(len(list(texts))))
    duplicates.groups([b"a b"] * 10)
    monkeypatch.setattr(duplicates, "EXACT_BYTES", 8)
    duplicates.groups([b"a b"] * 10)
    assert called == [10]


PROSE = " ".join(["the quick brown fox and a lazy dog have met", *map(str, VOCABULARY[:60])])
CASES = {
    "short": "too few words",
    "long": "a b c d e f g h i j " * 10_001,
    "long_lines": PROSE + "\n" + "x" * 1_001,
    "few_letters": PROSE + "+-*/ " * 800,
    "few_words": PROSE + " 17" * 40,
    "word_length": "a b " * 40 + PROSE[:40],
    "symbols": PROSE + " #" * 12,
    "bullets": "\n".join(f"- {word} the and {i}" for i, word in enumerate(VOCABULARY[:60])),
    "cut_off": "\n".join(f"read {word} the and more ..." for word in VOCABULARY[:60]),
    "stop_words": " ".join(VOCABULARY[:60]),
    "repeated_lines": "\n".join(["the same line and more"] * 5 + PROSE.split()[:20]),
    "repeated_words": PROSE[:200] + " now and then again" * 12,
}


SOUND = "\n".join(PROSE[i : i + 60] for i in range(0, len(PROSE), 60)).encode()


@pytest.mark.parametrize("name", filters.FILTERS)
def test_a_filter_drops_what_it_is_for_and_nothing_sound(name):
    assert filters.FILTERS[name](CASES[name].encode())
    assert not filters.FILTERS[name](SOUND)


def test_each_dropped_document_is_counted_once():
    edited = SOUND.replace(b"lazy", b"quiet")
    documents = [
        ("test", b"x" * 2_000), ("train", SOUND), ("train", b"one two"), (None, b"bad_lines"),
        ("validation", edited), ("train", b"one two"),
    ]  # fmt: skip
    dropped: dict[str, int] = {}
    names = ("near_duplicates", "long_lines", "short", "bullets")
    for _ in range(2):  # read again, counted anew
        assert list(filters.kept(lambda: documents, names, dropped)) == [("train", SOUND)]
        assert dropped == {
            "long_lines": 1, "short": 2, "bullets": 0, "bad_lines": 1, "near_duplicates": 1
        }  # fmt: skip
    assert len(list(filters.kept(lambda: documents, (), dropped))) == 5
    for names, said in (
        (("shrt",), "did you mean 'short'"),
        (("short", "short"), "names 'short' twice"),
    ):
        with pytest.raises(UserError, match=said):
            filters.check(names)


def test_contamination_is_counted_to_the_word():
    rng = random.Random(1)
    held, train = [written(rng, 100) for _ in range(4)], [written(rng, 100) for _ in range(9)]
    train[3][40:60] = held[0][10:30]  # 20 words in a row
    train[5][0:12] = held[1][0:12]  # one word too few
    train[7][50:63] = held[2][87:100]  # just enough, at the end
    held.append(["x", "y"])  # shorter than a run
    texts = [[" ".join(words).encode() for words in each] for each in (held, train)]
    found = contamination.overlap(texts[0], texts[1])
    assert found == (5, 2, 402, 33)
    assert str(found).startswith("40.0% of 5 documents share 13 words")
    assert contamination.overlap(texts[0], iter(texts[0])) == (5, 5, 402, 402)
    assert contamination.overlap([], texts[1]) == (0, 0, 0, 0)
    assert np.array_equal(
        duplicates.shingles(b"a b a b", 2), np.unique(duplicates.runs(b"a b a b", 2))
    )
