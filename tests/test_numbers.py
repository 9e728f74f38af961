"""Numbers as people read them."""

import math

import pytest

from research import numbers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (86400, "1 d"), (90061, "1 d 1 h")],
)
def test_durations(seconds, text):
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (999, "999"),
        (999.9, "1k"),  # rounded first: not 1e+03
        (12_345.6, "12.3k"),
        (-2e6, "-2M"),
        (999_950, "1M"),
        (4.567e9, "4.57B"),
        (3e15, "3e+03T"),
    ],
)
def test_counts(number, text):
    assert numbers.count(number) == text


def test_rates_have_the_letters_of_bytes():
    assert numbers.count(4.567e9, "kMGT") == "4.57G"


def test_intervals_need_both_ends():
    assert numbers.interval(0.25, 2) == "[0.25, 2]"
    assert numbers.interval(math.nan, 2) == numbers.interval(1, math.inf) == ""


def test_shares_bytes_and_powers():
    assert [numbers.percent(share) for share in (0.1234, 0.00567, -0.5)] == [
        "12.3%",
        "0.57%",
        "-50.0%",
    ]
    assert [numbers.gib(3 * 2**29), numbers.gib(2**30, 1), numbers.gib(None)] == [
        "1.500 GiB",
        "1.0 GiB",
        "unknown",
    ]
    assert [numbers.power_of_ten(value) for value in (1e12, 3e-11)] == ["10¹²", "3×10⁻¹¹"]


def test_lists_say_when_they_are_cut():
    assert numbers.few([1, 2], 2) == "1, 2"
    assert numbers.few(["a", "b", "c"], 2, repr) == "'a', 'b', ..."
    assert numbers.rows([3]) == "row 3"
    assert numbers.rows(range(1, 8)) == "rows 1, 2, 3, 4, 5, ..."
