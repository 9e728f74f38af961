"""Zipf facts: the curve of who remembers, its exponent, and what is left of the data."""

import itertools

import numpy as np
import pytest

from research import data
from research.data.sources import zipf_facts


def settings(**changes):
    return zipf_facts.DEFAULTS | changes


def test_the_curve_is_the_mean_over_all_ways_to_draw():
    config = settings(facts=3, alpha=0.7)
    p = zipf_facts.probabilities(config)
    assert p.sum() == pytest.approx(1) and p[1] / p[0] == pytest.approx(2**-1.7)
    for count in (0, 1, 4):
        total = 0.0
        for drawn in itertools.product(range(3), repeat=count):
            total += p[list(drawn)].prod() * sum(p[i] for i in range(3) if i not in drawn)
        assert zipf_facts.learning_curve(config, count) == pytest.approx(total, abs=1e-14)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0, 2.0])
def test_the_curve_falls_with_the_exponent_while_facts_are_left(alpha):
    config = settings(facts=2**20, alpha=alpha)
    counts = 10.0 ** np.arange(2, 5) if alpha < 0.5 else 10.0 ** np.arange(3, 6)
    slopes = np.diff(np.log(zipf_facts.learning_curve(config, counts))) / np.log(10)
    tolerance = 0.04 if alpha < 0.5 else 0.02  # the tail that a million facts cut off
    assert -slopes == pytest.approx(zipf_facts.exponent(config), abs=tolerance)


def test_one_fact_is_known_once_it_was_seen():
    assert zipf_facts.learning_curve(settings(facts=1), [0, 1, 5]).tolist() == [1, 0, 0]


def test_draws_are_as_often_as_they_should_be_and_who_remembers_errs_by_the_curve():
    config, count = settings(facts=50, alpha=0.5), 300
    rng, p = np.random.default_rng(0), zipf_facts.probabilities(config)
    drawn = zipf_facts.sample(config, 2_000 * count, rng)
    chi = ((np.bincount(drawn, minlength=50) - len(drawn) * p) ** 2 / (len(drawn) * p)).sum()
    assert abs(chi - 49) < 4 * np.sqrt(2 * 49)
    unseen = [p[np.bincount(each, minlength=50) == 0].sum() for each in drawn.reshape(2_000, count)]
    error = np.std(unseen) / 2_000**0.5
    assert abs(np.mean(unseen) - zipf_facts.learning_curve(config, count)) < 4 * error


def test_windows_spell_facts_apart_and_answer_them_alike():
    config = settings(facts=4_096)
    every = zipf_facts.windows(config, np.arange(4_096))
    assert len(np.unique(every[:, 1:-1], axis=0)) == 4_096 and every[:, 1:].min() == 1
    assert every.max() == 16 and (every[:, 0] == 0).all()
    counts = np.bincount(every[:, -1], minlength=17)[1:]
    assert ((counts - 256) ** 2 / 256).sum() < 15 + 4 * np.sqrt(30)
    again = zipf_facts.windows(config, np.array([7, 9, 7]))
    assert (again[0] == again[2]).all() and (again[1] == every[9]).all()


def test_the_source_weighs_answers_alone_and_knows_what_the_data_leave_open(tmp_path):
    config = data.default("zipf_facts")
    config.update(folder=str(tmp_path), examples=2_000, validation_examples=1_000)
    train = data.load(config, "train")
    batch, floor = train.gather(np.arange(2_000)), train.floor or {}
    assert (batch["weights"] == [0, 0, 0, 4]).all() and batch["weights"].mean() == 1
    facts = (batch["tokens"][:, 1:-1] - 1) @ [1, 16, 256]
    unseen = np.setdiff1d(np.arange(4_096), facts)
    assert floor["value"] == pytest.approx(4 * zipf_facts.probabilities(config)[unseen].sum())
    expected = 4 * zipf_facts.learning_curve(config, 2_000)
    assert floor["value"] == pytest.approx(expected, rel=0.1) and expected > 0.2
