"""Rules: what they say of a run, that they say it once, and what they lack."""

import pytest

from research import cost, recipes
from research.errors import UserError
from research.rules import RULES, Now
from tests import shapes


def ruled(*names, budget=None, **train):
    config = shapes.autoregressive()
    base = dict(examples=40, batch_size=4, learning_rate=0.02, weight_decay=0.2, b2=0.9, eps=1e-6)
    config.base.update(base)
    config.rules = names
    with config.train.ignore_type():
        config.train.update(dict(learning_rate=None, batch_size=None, decay_steps=None) | train)
        if budget:
            config.train.steps, config.budget = None, budget
    return config


def test_rates_follow_the_horizon_and_the_batch():
    """16 times the base's 40 examples, in batches twice as large."""
    config = recipes.apply(ruled("token_horizon", "root_batch", batch_size=8, steps=80))
    assert config.train.learning_rate == pytest.approx(0.02 * 16**-0.32 * 2**0.5)
    before = config.to_json()
    assert recipes.apply(config).to_json() == before  # a rule acts once
    set_by_hand = recipes.apply(ruled("token_horizon", batch_size=8, steps=80, learning_rate=0.5))
    assert set_by_hand.train.learning_rate == 0.5


def test_decay_and_moments_forget_over_the_same_share_and_the_same_examples():
    names = ("decay_timescale", "half_life", "root_batch_eps")
    train = recipes.apply(ruled(*names, batch_size=8, steps=80, learning_rate=0.01)).train
    share = 8 / (0.01 * train.weight_decay * 640)
    assert share == pytest.approx(4 / (0.02 * 0.2 * 40))
    assert train.b2 ** (1 / 8) == pytest.approx(0.9 ** (1 / 4))
    assert train.eps == pytest.approx(1e-6 / 2**0.5)


def test_a_batch_follows_the_data_that_a_budget_buys():
    step = cost.ledger(recipes.apply(ruled(batch_size=4, steps=10, learning_rate=0.1))).step_flops
    config = ruled("batch_of_data", budget=160.0 * step, learning_rate=0.1)  # 16 times the examples
    recipes.apply(config)
    assert config.train.batch_size == round(4 * 16**0.383)
    assert config.train.steps == round(160 * 4 / config.train.batch_size)


@pytest.mark.parametrize(
    "names, keys, message",
    [
        (("token_horizen",), {}, "did you mean 'token_horizon'"),
        (("token_horizon",), {"examples": 0}, "'token_horizon' needs config.base.examples"),
        (("half_life",), {"b2": 0.0}, "'half_life' needs config.base.b2"),
        (("batch_of_data",), {}, "needs config.budget, and no train.steps"),
    ],
)
def test_what_a_rule_lacks_is_said(names, keys, message):
    config = ruled(*names, steps=80, learning_rate=0.1)
    config.base.update(keys)
    with pytest.raises(UserError, match=message):
        recipes.apply(config)


def test_a_rule_of_what_an_optimizer_lacks_is_refused():
    config = ruled("half_life", batch_size=8, steps=80, learning_rate=0.1)
    config.train.optimizer = "sgd"
    for key in ("b1", "b2", "eps"):
        del config.train[key]
    with pytest.raises(UserError, match="sets config.train.b2, which optimizer 'sgd'"):
        recipes.apply(config)


@pytest.mark.parametrize("name", RULES)
def test_at_the_base_a_rule_changes_nothing(name):
    assert RULES[name].value(0.7, Now(1.0, 1.0, 1.0)) == 0.7
