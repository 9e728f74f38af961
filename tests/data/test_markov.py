"""The entropy of the known chain, against closed forms and enumeration."""

import itertools

import numpy as np
import pytest

from research import data
from research.data.sources import markov
from research.errors import UserError

WEATHER = np.array([[0.9, 0.1], [0.4, 0.6]])


def chain(vocab_size, order, seed=0, concentration=0.5):
    config = {"vocab_size": vocab_size, "order": order, "seed": seed}
    return markov.transition({**config, "concentration": concentration})


def enumerated(rows, length):
    """P of every sequence of `length` symbols, by multiplying along it; states by eigenvector."""
    states, vocab_size = rows.shape
    order = round(np.log(states) / np.log(vocab_size))
    step = np.zeros((states, states))
    for state, symbol in itertools.product(range(states), range(vocab_size)):
        step[state, (state * vocab_size + symbol) % states] = rows[state, symbol]
    values, vectors = np.linalg.eig(step.T)
    start = np.real(vectors[:, np.argmax(np.real(values))])
    start = start / start.sum()
    found = {}
    for sequence in itertools.product(range(vocab_size), repeat=max(length, order)):
        state = 0
        for symbol in sequence[:order]:
            state = state * vocab_size + symbol
        probability = start[state]
        for symbol in sequence[order:]:
            probability *= rows[state, symbol]
            state = (state * vocab_size + symbol) % states
        found[sequence[:length]] = found.get(sequence[:length], 0.0) + probability
    return found


def entropy(probabilities):
    return -sum(p * np.log2(p) for p in probabilities if p > 0)


def test_two_state_chain_has_the_textbook_entropy_rate():
    # Stationary (0.8, 0.2): 0.8 H(0.1) + 0.2 H(0.4).
    assert markov.stationary(WEATHER) == pytest.approx([0.8, 0.2], abs=1e-13)
    assert markov.entropy_rate(WEATHER) == pytest.approx(0.569387, abs=5e-7)
    assert markov.window_entropy(WEATHER, 7) == pytest.approx(markov.entropy_rate(WEATHER), 1e-13)


def test_a_periodic_chain_is_solved_too():
    rows = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert markov.stationary(rows) == pytest.approx([0.5, 0.5], abs=1e-13)
    assert markov.entropy_rate(rows) == 0


@pytest.mark.parametrize(
    "vocab_size, order, length", [(2, 1, 5), (2, 2, 6), (2, 3, 2), (3, 2, 4), (2, 3, 7)]
)
def test_window_entropy_is_that_of_all_windows_enumerated(vocab_size, order, length):
    rows = chain(vocab_size, order)
    joint = enumerated(rows, length + 1)
    assert sum(joint.values()) == pytest.approx(1, abs=1e-12)
    first = enumerated(rows, 1)
    expected = (entropy(joint.values()) - entropy(first.values())) / length
    assert markov.window_entropy(rows, length) == pytest.approx(expected, abs=1e-10)
    windows = np.array(list(joint))
    logs = np.log2([joint[tuple(w)] / first[(w[0],)] for w in windows])
    assert markov.log2_probability(rows, windows) == pytest.approx(logs, abs=1e-9)


def test_short_context_costs_bits_only_when_the_order_is_above_one():
    rows = chain(4, 3)
    excess = [(markov.window_entropy(rows, n) - markov.entropy_rate(rows)) * n for n in (2, 8, 64)]
    assert excess[0] > 0.01 and excess[1] == pytest.approx(excess[2], abs=1e-9)


def test_windows_are_stationary_draws_of_the_chain():
    rows = chain(3, 2, concentration=1.0)
    windows = markov.sample(rows, 40_000, 6, np.random.default_rng(0))
    expected = markov.blocks(rows)[2]
    for start in (0, 2, 4):  # the first three symbols and the last three have one distribution
        codes = windows[:, start : start + 3].astype(int) @ [9, 3, 1]
        found = np.bincount(codes, minlength=27) / len(windows)
        assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / len(windows))


def test_a_window_may_be_shorter_than_the_order():
    rows = chain(2, 4)
    assert markov.sample(rows, 5, 2, np.random.default_rng(0)).shape == (5, 3)


def test_the_source_has_its_exact_floor(small_chain):
    small_chain.update(tokens=8_000, validation_tokens=40_000, order=2, vocab_size=5)
    source = data.load(small_chain, "validation")
    rows = markov.transition(small_chain)
    windows = source.gather(np.arange(len(source)))["tokens"]
    floor = source.floor or {}
    assert floor["kind"] == "exact" and floor["unit"] == "bits/token"
    assert floor["value"] == markov.window_entropy(rows, 8)
    assert floor["sample_value"] == -markov.log2_probability(rows, windows).mean() / 8
    assert abs(floor["value"] - floor["sample_value"]) < 4 * floor["standard_error"]
    assert len(source) == 5000 and windows.max() == 4 and source.spec["vocab_size"] == 5
    train = data.load(small_chain, "train").gather(np.arange(1000))["tokens"]
    assert not np.array_equal(train, windows[:1000])


def test_a_chain_that_does_not_mix_is_refused():
    stuck = np.array([[1 - 1e-9, 1e-9], [3e-9, 1 - 3e-9]])
    with pytest.raises(UserError, match="not mixed"):
        markov.stationary(stuck, most=1000)
