"""The random hierarchy model against all its strings, derived one by one."""

import itertools

import numpy as np
import pytest

from research import data
from research.data.sources import hierarchy


def settings(**changes):
    small = dict(length=4, vocab_size=4, depth=2, branching=2, synonyms=2, classes=3)
    return hierarchy.DEFAULTS | small | changes


def derived(config, symbols, level=0):
    """Every string that `symbols` of a level become, once for each derivation."""
    if level == config["depth"]:
        return [tuple(symbols)]
    found = []
    for choice in itertools.product(range(config["synonyms"]), repeat=len(symbols)):
        sides = [hierarchy.rules(config)[level][s, c] for s, c in zip(symbols, choice, strict=True)]
        found += derived(config, [int(each) for side in sides for each in side], level + 1)
    return found


def language(config):
    return [each for top in range(config["classes"]) for each in derived(config, [top])]


GRAMMARS = [{}, dict(branching=3, length=9, synonyms=1), dict(depth=3, length=8, synonyms=1)]


@pytest.mark.parametrize("changes", GRAMMARS)
def test_all_strings_of_the_language_are_as_likely_and_no_others_are(changes):
    config = settings(**changes)
    strings = language(config)
    assert len(set(strings)) == len(strings)  # one derivation each
    assert hierarchy.entropy(config) == pytest.approx(np.log(len(strings)), abs=1e-12)
    windows = np.pad(np.array(strings) + 1, ((0, 0), (1, 0)))
    logs = hierarchy.log_probability(config, windows)
    assert logs == pytest.approx(-np.log(len(strings)), abs=1e-12)
    symbols = range(config["vocab_size"] - 1)
    every = np.array([*itertools.product(symbols, repeat=config["length"])])
    p = np.exp(hierarchy.log_probability(config, np.pad(every + 1, ((0, 0), (1, 0)))))
    assert {tuple(each) for each in every[p > 0]} <= set(strings)
    assert p.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 6])
def test_a_window_that_ends_early_has_the_sum_over_what_may_follow(length):
    config = settings()
    strings = language(config)
    texts = [a + b for a in strings for b in strings] if length > 4 else strings
    counts = {}
    for text in texts:
        counts[text[:length]] = counts.get(text[:length], 0) + 1 / len(texts)
    windows = np.array([(0, *each) for each in counts], int)
    windows[:, 1:] += 1
    found = np.exp(hierarchy.log_probability(config, windows))
    assert found == pytest.approx([*counts.values()], abs=1e-12)


def test_what_is_no_window_has_no_probability():
    config = settings()
    good = np.pad(np.array(language(config)[:1]) + 1, ((0, 0), (1, 0)))
    wrong = np.concatenate([good] * 4)
    wrong[0, 0], wrong[1, 2], wrong[2, 3] = 1, 0, 4
    assert np.isfinite(hierarchy.log_probability(config, wrong)).tolist() == [False] * 3 + [True]


def test_draws_have_the_frequencies_of_all_strings():
    config = settings()
    strings = language(config)
    drawn = hierarchy.sample(config, 20_000, np.random.default_rng(0)).astype(int)
    order = {each: k for k, each in enumerate(strings)}
    found = np.bincount([order[tuple(each)] for each in drawn[:, 1:] - 1], minlength=len(strings))
    expected = len(drawn) / len(strings)
    chi = ((found - expected) ** 2 / expected).sum()
    assert abs(chi - (len(strings) - 1)) < 4 * np.sqrt(2 * len(strings))


def test_the_source_has_its_exact_floor(tmp_path):
    config = data.default("hierarchy")
    config.update(folder=str(tmp_path), length=32, tokens=3_200, validation_tokens=6_400)
    source = data.load(config, "validation")
    floor, windows = source.floor or {}, source.gather(np.arange(200))["tokens"]
    bits = -hierarchy.log_probability(config, windows) / (np.log(2) * 32)
    assert bits == pytest.approx(floor["value"], abs=1e-12)
    assert floor["value"] == pytest.approx((3 + 15 * 2) / 16, abs=1e-12)
    assert (windows[:, 0] == 0).all() and windows[:, 1:].min() == 1 and windows.max() == 8
