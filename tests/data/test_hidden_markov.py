"""Hidden Markov text against the sum over all paths."""

import itertools

import numpy as np
import pytest

from research import data
from research.data.sources import hidden_markov, markov


def settings(**changes):
    small = dict(length=4, vocab_size=4, states=3, concentration=0.5, seed=3)
    return hidden_markov.DEFAULTS | small | changes


def windows(config, length):
    symbols = range(1, config["vocab_size"])
    return np.array([(0, *each) for each in itertools.product(symbols, repeat=length)])


def by_paths(config, window):
    """P of a window, summed over every path of states."""
    following, emission = hidden_markov.tables(config)
    start, total = markov.stationary(following), 0.0
    for path in itertools.product(range(config["states"]), repeat=len(window) - 1):
        p = start[path[0]]
        for before, after in itertools.pairwise(path):
            p *= following[before, after]
        for state, token in zip(path, window[1:], strict=True):
            p *= emission[state, token - 1]
        total += p
    return total


@pytest.mark.parametrize("length", [1, 2, 4])
def test_the_forward_algorithm_is_the_sum_over_all_paths(length):
    config = settings()
    every = windows(config, length)
    p = np.exp(hidden_markov.log_probability(config, every))
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p == pytest.approx([by_paths(config, each) for each in every], abs=1e-13)


def test_what_is_no_window_has_no_probability():
    config = settings()
    wrong = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 4], [0, 1, 2]])
    assert np.isfinite(hidden_markov.log_probability(config, wrong)).tolist() == [False] * 3 + [
        True
    ]


def test_draws_have_the_frequencies_of_all_windows():
    config = settings(length=3)
    every = windows(config, 3)
    p = np.exp(hidden_markov.log_probability(config, every))
    drawn = hidden_markov.sample(config, 40_000, np.random.default_rng(0)).astype(int)
    assert (drawn[:, 0] == 0).all() and drawn.min() == 0 and drawn.max() == 3
    found = np.bincount((drawn[:, 1:] - 1) @ [9, 3, 1], minlength=27)
    chi = ((found - len(drawn) * p) ** 2 / (len(drawn) * p)).sum()
    assert abs(chi - 26) < 4 * np.sqrt(2 * 26)


def test_the_source_has_its_floor(tmp_path):
    config = data.default("hidden_markov")
    config.update(settings(length=5), folder=str(tmp_path), tokens=500, validation_tokens=50_000)
    source = data.load(config, "validation")
    floor = source.floor or {}
    p = np.exp(hidden_markov.log_probability(config, windows(config, 5)))
    assert abs(floor["value"] + p @ np.log2(p) / 5) < 4 * floor["standard_error"] < 0.02
    assert floor["kind"] == "exact log probability, sample mean" and len(source) == 10_000
    assert source.gather([3])["tokens"][0, 0] == 0
