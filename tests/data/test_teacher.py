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
    same = np.array([[0, 1, 2, 3, 1], [0, 3, 2, 3, 1], [0, 1, 2, 1, 1]])
    found = teacher.log_conditional(config, same)
    assert (found[0] == found[1]).all() and not np.allclose(found[0], teacher.log_conditional(config, same[:, :3])[0])  # fmt: skip  # noqa: E501


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


def test_the_source_has_its_floor(tmp_path):
    config = data.default("teacher")
    config.update(settings(length=5), folder=str(tmp_path), tokens=500, validation_tokens=50_000)
    source = data.load(config, "validation")
    floor = source.floor or {}
    p = np.exp(teacher.log_probability(config, windows(config, 5)))
    exact = -(p @ np.log2(p)) / 5
    assert abs(floor["value"] - exact) < 4 * floor["standard_error"] < 0.02
    each = -teacher.log_probability(config, source.gather(np.arange(10_000))["tokens"])
    each /= 5 * np.log(2)
    assert floor["sample_value"] == pytest.approx(each.mean())
    assert (
        abs(each.mean() - exact) < 4 * each.std() / 100
        and floor["standard_error"] < each.std() / 100
    )
