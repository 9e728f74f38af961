"""Shares of n-grams that stand in a text, against a set of them all."""

import numpy as np
import pytest

from research.evaluation import overlap


@pytest.mark.parametrize("piece", [overlap.PIECE, 7])
def test_shares_are_those_of_a_set_of_all_runs(monkeypatch, piece):
    monkeypatch.setattr(overlap, "PIECE", piece)
    random = np.random.default_rng(0)
    train = random.integers(0, 2, 150).astype(np.uint8)
    drawn, held = random.integers(0, 2, (5, 40)), random.integers(0, 2, (3, 33))
    drawn[0, :40] = train[-40:]  # its last run is the last one of all
    for n in (1, 8, 32):
        known = {tuple(train[i : i + n]) for i in range(len(train) - n + 1)}
        found = overlap.shares(train, [drawn, held], n)
        for texts, shares in zip((drawn, held), found, strict=True):
            for text, share in zip(texts, shares, strict=True):
                runs = [tuple(text[i : i + n]) in known for i in range(len(text) - n + 1)]
                assert share == np.mean(runs)
        assert found[0][0] == 1


def test_a_run_over_the_border_of_two_windows_was_never_read():
    windows = np.arange(48).reshape(2, 24)
    (found,) = overlap.shares(
        windows,
        [
            np.arange(16, 32)[None],
        ],
        8,
    )
    (within,) = overlap.shares(windows, [np.arange(24, 40)[None]], 8)
    assert found.tolist() == [2 / 9] and within.tolist() == [1]


def test_what_is_copied_is_found_whatever_the_tokens():
    train = np.arange(300, dtype=np.uint16) * 7 % 1000
    copied, other = train[None, 100:164].astype(np.int32), train[None, 63::-1]
    found = overlap.overlaps(train, copied, other)
    assert list(found) == [
        f"overlap_{n}{of}" for n in overlap.LENGTHS for of in ("", "_validation")
    ]
    assert [each.value for each in found.values()] == [1, 0] * 3
    assert found["overlap_8"].interval == (1, 1) and found["overlap_8"].examples == 1


def test_hashes_tell_runs_apart_by_order_and_by_zeros():
    zeros = np.zeros((1, 16), np.int64)
    one = zeros.copy()
    one[0, 3] = 1
    runs = np.concatenate(
        [zeros, one, one[:, ::-1], np.arange(16)[None], np.arange(16)[None, ::-1]]
    )
    assert len({int(each) for each in overlap.hashes(runs, 16)[:, 0]}) == 5
    assert len({*overlap.hashes(zeros, 4)[0].tolist()}) == 1
