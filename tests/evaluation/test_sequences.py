"""Scores of written text by hand: what is counted, what it is called, how sure it is."""

import sys

import numpy as np
import pytest

from research.errors import UserError
from research.evaluation import docstrings, functions, greedy, intervals, sequences
from tests import shapes

TEXTS = ["the cat sat on the mat today", "it was a very good day", "nobody knew of the dog"]


def test_the_same_text_scores_all_there_is():
    for metric, most in ((sequences.bleu, 100), (sequences.chrf, 100), (sequences.rouge, 1)):
        found = metric(TEXTS, TEXTS)
        assert found.value == pytest.approx(most) and found.interval == pytest.approx((most, most))
        assert "version:" in found.signature and found.examples == 3
    mixed = sequences.bleu([TEXTS[0], *TEXTS[:0:-1]], TEXTS)
    assert mixed.interval[0] < mixed.value < mixed.interval[1]
    assert mixed.signature.startswith("bleu|nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a")


def test_hand_cases_of_the_papers():
    # Papineni et al. 2002, section 2.1: seven times "the", of which the reference has two.
    clipped = sequences.bleu(["the the the the the the the"], ["the cat is on the mat"], order=1)
    assert clipped.value == pytest.approx(100 * 2 / 7)
    # Lin 2004, section 3: three of four words stand in a common subsequence, two in the other.
    reference = ["police killed the gunman"]
    assert sequences.rouge(["police kill the gunman"], reference).value == 0.75
    assert sequences.rouge(["the gunman kill police"], reference).value == 0.5
    assert sequences.rouge(["police kill the gunman"], reference, "rouge2").value == 1 / 3


def test_meteor_says_what_it_needs_or_scores():
    if sequences.has_wordnet():
        assert sequences.meteor(TEXTS, TEXTS).value > 0.99
        return
    with pytest.raises(UserError, match=r"python -m nltk.downloader wordnet"):
        sequences.meteor(TEXTS, TEXTS)


def test_bad_sequences(monkeypatch):
    for metric in (sequences.bleu, sequences.rouge):
        with pytest.raises(UserError, match="1 hypotheses and 2 references"):
            metric(["a"], ["a", "b"])
        with pytest.raises(UserError, match="at least 1"):
            metric([], [])
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(UserError, match="not installed.*pip install -r requirements-text.txt"):
        sequences.check_installed()


def test_docstrings_are_asked_of_code_and_end_with_their_line(monkeypatch):
    code = '''
def double(x):
    """Return twice as much as x.

    More."""
    return 2 * x


def short(x):
    """Short."""
    return x


def half(x):
    """Return half as much as x is."""
    return x / 2
'''
    found = functions.of_file("sizes.py", code.encode())
    monkeypatch.setattr(functions, "held_out", lambda config: found)
    config = shapes.autoregressive(vocab=256, length=80)
    asked = docstrings.questions(config)
    assert [line for _, line in asked] == [
        "Return twice as much as x.",
        "Return half as much as x is.",
    ]
    assert asked[0][0] == 'def double(x):\n    return 2 * x\n\ndef double(x):\n    """'
    drawn = [b'Return twice as much as x."""\n', b"Return half as much as x is.\nMore"]
    monkeypatch.setattr(greedy, "complete", lambda *_: drawn)
    scores = docstrings.measure(config, None)
    assert (
        scores["docstring_bleu"].value == pytest.approx(100)
        and scores["docstring_rouge"].value == 1
    )
    assert scores.keys() == docstrings.score_kinds(config).keys()


def test_intervals_by_hand():
    half = intervals.share(5, 10)
    assert half.value == 0.5 and half.interval == pytest.approx((0.236593, 0.763407), abs=1e-6)
    none, all_of = intervals.share(0, 10), intervals.share(10, 10)
    assert none.interval == pytest.approx((0, 0.277533), abs=1e-6)
    assert all_of.interval == pytest.approx((1 - none.interval[1], 1))
    assert np.isnan(intervals.share(0, 0).value)
    values = np.random.default_rng(0).normal(size=400)
    found = intervals.bootstrap(values)
    # Of a mean it is about 1.96 standard errors.
    assert found.value == values.mean() and found == intervals.bootstrap(values)
    assert np.diff(found.interval)[0] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
