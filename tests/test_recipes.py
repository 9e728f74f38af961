"""What the ladders make of a size and a budget."""

import pytest

from research import defaults, recipes


def laddered(recipe, size, budget):
    """A text or an image run, filled."""
    text = recipe == "ladder"
    config = defaults.config(*(("autoregressive", "markov") if text else ("diffusion", "glyphs")))
    config.recipe, config.size, config.budget = recipe, size, budget
    if not text:
        config.model.image_shape = (16, 16, 1)
    return recipes.apply(config)


@pytest.mark.parametrize(
    "recipe, best",
    [
        ("ladder", {1e9: 8, 8e11: 8, 1.6e12: 8, 3.2e12: 16, 6.4e12: 16, 5.1e13: 32}),
        ("image_ladder", {1e11: 16, 4e11: 16, 1.6e12: 32}),
    ],
)
def test_batches_are_the_best_of_the_tables_and_double_while_budgets_grow_eightfold(recipe, best):
    assert {budget: laddered(recipe, 16, budget).train.batch_size for budget in best} == best


def test_a_batch_that_a_user_sets_stands():
    config = defaults.config("autoregressive", "markov")
    config.size, config.budget, config.train.batch_size = 16, 1e13, 12
    assert recipes.apply(config).train.batch_size == 12


@pytest.mark.parametrize(
    "recipe, heads",
    [
        ("ladder", {24: 3, 32: 2, 48: 3, 64: 4, 768: 12, 1024: 16, 4096: 32}),
        ("image_ladder", {16: 2, 24: 3, 32: 4, 40: 5, 48: 6}),
    ],
)
def test_heads_are_those_of_the_tables_and_of_known_models(recipe, heads):
    assert {width: laddered(recipe, width, 1e13).model.num_heads for width in heads} == heads
