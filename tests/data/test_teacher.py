"""Text of a teacher against the sum over all texts, and against its network written out."""

import itertools
import math

import numpy as np
import pytest

from research import data
from research.data.sources import teacher


def settings(**changes):
    small = dict(length=4, vocab_size=4, context=2, hidden=5, temperature=0.7)
    return teacher.DEFAULTS | small | changes


def windows(config, length):
    symbols = range(1, config["vocab_size"])
    return np.array([(0, *each) for each in itertools.product(symbols, repeat=length)])


def by_hand(config, text):
    """P(next) after `text`, by loops over the weights."""
    of, hidden = teacher.weights(config), config["hidden"]
    padded = [0] * config["context"] + [int(each) for each in text]
    units = []
    for unit in range(hidden):
        units.append(
            math.tanh(sum(of.read[b, padded[-1 - b], unit] for b in range(config["context"])))
        )
    scores = [
        math.exp(sum(u * w for u, w in zip(units, column, strict=True)) / config["temperature"])
        for column in of.write.T
    ]
    return [each / sum(scores) for each in scores]


@pytest.mark.parametrize("context", [1, 2, 6])
def test_probabilities_are_those_of_the_network_and_sum_to_one(context):
    config = settings(context=context)
    every = windows(config, 4)
    p = np.exp(teacher.log_probability(config, every))
    assert p.sum() == pytest.approx(1, abs=1e-12)
    for window, found in zip(every[::9], p[::9], strict=True):
        each = [by_hand(config, window[:place])[window[place] - 1] for place in range(1, 5)]
        assert found == pytest.approx(math.prod(each), abs=1e-13)


def test_only_the_context_is_read():
    config = settings()
    same = np.array([[0, 1, 2, 3, 1], [0, 3, 2, 3, 1], [0, 1, 1, 3, 1]])
    each = [teacher.log_probability(config, same[:, :end]) for end in (4, 5)]
    last = each[1] - each[0]
    assert last[0] == pytest.approx(last[1], abs=1e-14) and abs(last[0] - last[2]) > 1e-3


def test_what_is_no_window_has_no_probability():
    wrong = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 4], [0, 1, 2]])
    found = np.isfinite(teacher.log_probability(settings(), wrong))
    assert found.tolist() == [False] * 3 + [True]


def test_draws_have_the_frequencies_of_all_windows():
    config = settings(length=3)
    p = np.exp(teacher.log_probability(config, windows(config, 3)))
    drawn = teacher.sample(config, 40_000, np.random.default_rng(0)).astype(int)
    found = np.bincount((drawn[:, 1:] - 1) @ [9, 3, 1], minlength=27)
    chi = ((found - len(drawn) * p) ** 2 / (len(drawn) * p)).sum()
    assert abs(chi - 26) < 4 * np.sqrt(2 * 26) and (drawn[:, 0] == 0).all()


@pytest.mark.parametrize("context, length", [(1, 3), (2, 5), (6, 4)])
def test_the_entropy_is_that_of_all_windows(context, length):
    config = settings(context=context, length=length)
    logs = teacher.log_probability(config, windows(config, length))
    assert teacher.entropy(config) == pytest.approx(-(np.exp(logs) @ logs), abs=1e-12)


def test_the_source_has_its_exact_floor(tmp_path):
    config = data.default("teacher")
    config.update(settings(length=5), folder=str(tmp_path), tokens=500, validation_tokens=50_000)
    source = data.load(config, "validation")
    floor = source.floor or {}
    assert floor["kind"] == "exact" and floor["unit"] == "bits/token"
    assert floor["value"] == teacher.entropy(config) / (5 * np.log(2))
    assert abs(floor["value"] - floor["sample_value"]) < 4 * floor["standard_error"] < 0.03
    windows = source.gather(np.arange(10_000))["tokens"]
    each = -teacher.log_probability(config, windows) / (5 * np.log(2))
    assert floor["sample_value"] == pytest.approx(each.mean())
