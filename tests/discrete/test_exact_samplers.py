"""Samplers by the true conditionals of a table: what they draw, and in which order."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import ConfigDict
from scipy.stats import chisquare

from research.families import discrete_diffusion
from research.families.discrete_diffusion import jumping, unmasking
from research.families.discrete_diffusion.unmasking import UNKNOWN
from tests.discrete import truth
from tests.discrete.truth import JOINT, TEXTS, T, V

ROWS = 8_000
EMPTY = np.full((ROWS, T), UNKNOWN)


def by_table(tokens_BxL, share):
    return truth.log_p(truth.shown(tokens_BxL, UNKNOWN))


def without_context(tokens_BxL, share):
    """The planted bug: each token as if it were the first to appear."""
    return by_table(jnp.full_like(tokens_BxL, UNKNOWN), share)


def drawn(sampler, steps=T, predict: Any = by_table, given=EMPTY, blocks=1, of=unmasking, **keys):
    settings = ConfigDict({**discrete_diffusion.default_sampling(), "sampler": sampler, **keys})
    ends = jnp.linspace(1.0, 0.0, steps + 1)

    def draw(tokens, key):
        return of.draw(settings, predict, tokens, key, blocks, ends)

    found = np.asarray(jax.jit(draw)(jnp.asarray(given), jax.random.key(1)))
    assert (found >= 0).all() and (found < V).all()
    return found


def likely(rows, expected=JOINT):
    """The p-value of rows as draws from a table; cells of less than five are one."""
    counts, means = truth.chances(rows), expected * len(rows)
    rare = means < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        means = np.append(means[~rare], means[rare].sum())
    return chisquare(counts, means * counts.sum() / means.sum()).pvalue


MARGINALS = np.prod(
    [np.bincount(TEXTS[:, at], JOINT)[TEXTS[:, at]] for at in range(T)], axis=0
)  # of each text, were its tokens independent


@pytest.mark.parametrize(
    "sampler, keys",
    [
        ("ancestral", {}),
        ("margin", dict(choice_noise=1.0)),
        ("entropy", dict(entropy_bound=0.0)),
    ],
)
def test_one_token_a_step_is_an_exact_draw(sampler, keys):
    """Whatever the order, so long as it does not depend on what is drawn."""
    assert likely(drawn(sampler, **keys)) > 1e-3


def test_what_is_drawn_without_context_is_found_out():
    assert likely(drawn("ancestral", predict=without_context)) < 1e-9


def test_all_at_once_is_a_draw_of_independent_tokens():
    rows = drawn("ancestral", steps=1)
    assert likely(rows, MARGINALS) > 1e-3 and likely(rows) < 1e-9
    assert likely(drawn("entropy", entropy_bound=1e9), MARGINALS) > 1e-3


def test_blocks_are_drawn_one_after_another():
    """The second half is never seen while the first is drawn, and the draw is exact."""

    def predict(tokens_BxL, share):
        found = by_table(tokens_BxL, share)
        early = (
            (tokens_BxL[:, :2] == UNKNOWN).any(1) & (tokens_BxL[:, 2:] != UNKNOWN).any(1)
        ).any()
        return jnp.where(early, jnp.nan, found)

    for sampler, steps in (("ancestral", 2), ("entropy", 1)):
        rows = drawn(sampler, steps, predict, blocks=2, entropy_bound=0.0)
        assert likely(rows) > 1e-3


@pytest.mark.slow
def test_tokens_may_be_hidden_again():
    """None is the ancestral sampler by coins; a few in each of many steps leave the table as it is.

    A step that hides most of what is known shows it anew, and still leaves shares as they were.
    """
    for again in (0.0, 0.03):
        rows = drawn("remask", steps=160, remask_share=again, given=EMPTY[:3_000])
        assert likely(rows) > 1e-3
    tokens = jnp.where(jax.random.uniform(jax.random.key(2), (4_000, T)) < 0.6, UNKNOWN, 0)
    settings = ConfigDict(dict(remask_share=0.8, temperature=1.0))
    uniform = jnp.full((4_000, T, V), -np.log(3))
    found = unmasking._remasked(
        settings, uniform, tokens, jnp.ones((4_000, T), bool), 0.6, 0.5, jax.random.key(3)
    )
    assert float((found == UNKNOWN).mean()) == pytest.approx(0.5, abs=0.02)
    assert float((found == UNKNOWN)[tokens != UNKNOWN].mean()) == pytest.approx(0.8, abs=0.02)


def test_what_is_given_stays_and_the_rest_is_drawn_given_it():
    given = np.broadcast_to([UNKNOWN, 2, UNKNOWN, 0], (ROWS, T))
    chosen = (TEXTS[:, 1] == 2) & (TEXTS[:, 3] == 0)
    for sampler in ("ancestral", "entropy"):
        rows = drawn(sampler, given=given, entropy_bound=0.0)
        assert (rows[:, 1] == 2).all() and (rows[:, 3] == 0).all()
        assert likely(rows, JOINT * chosen / JOINT[chosen].sum()) > 1e-3


SURE = jnp.array([0.5, 0.99, 0.7, 0.9])  # how likely token 0 is at each place; else it is 1


def as_sure(tokens_BxL, share):
    each = jnp.log(jnp.stack([SURE, 1 - SURE, jnp.full(T, 1e-9)], -1))
    return jnp.broadcast_to(each, (*tokens_BxL.shape, V))


@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("sampler", ["margin", "entropy"])
def test_the_surest_place_comes_first(sampler, temperature):
    """A place waits until all that are surer are there; else token 2 would be drawn."""
    order = np.argsort(-np.asarray(SURE))

    def predict(tokens_BxL, share):
        late = [
            (tokens_BxL[:, a] == UNKNOWN) & (tokens_BxL[:, b] != UNKNOWN)
            for a, b in zip(order[:-1], order[1:], strict=True)
        ]
        wrong_Bx1x1 = jnp.any(jnp.array(late), 0)[:, None, None]
        only = jnp.log(jnp.array([1e-9, 1e-9, 1.0]))
        return jnp.where(wrong_Bx1x1, only, as_sure(tokens_BxL, share))

    keys: Any = dict(entropy_bound=0.0, temperature=temperature)
    rows = drawn(sampler, predict=predict, given=EMPTY[:500], **keys)
    assert (rows < 2).all()
    if not temperature:
        assert (rows[:, 1:] == 0).all()


def test_the_likeliest_draw_comes_first():
    settings = ConfigDict({**discrete_diffusion.default_sampling(), "sampler": "confidence"})
    empty = jnp.asarray(EMPTY)
    here = jnp.ones_like(empty, bool)

    def first(noise):
        settings.choice_noise = noise
        found = unmasking._ordered(
            settings, as_sure(empty, 1.0), empty, here, 1.0, 0.75, jax.random.key(0)
        )
        assert ((found != UNKNOWN).sum(1) == 1).all()
        return np.asarray((found != UNKNOWN).mean(0))

    sharp, noisy = first(0.0), first(3.0)
    assert sharp[1] == pytest.approx(0.99, abs=0.01) and sharp[0] < 0.001
    assert 0.2 < noisy[1] < 0.6 and noisy[0] > 0.1


def by_posterior(tokens_BxL, share):
    return truth.log_p(truth.noised(tokens_BxL, share))


def test_a_leap_shorter_than_the_first_share_is_none():
    """Of 2,000 even steps the first goes nowhere, and no chance is below 0."""
    log_p = truth.log_p(truth.noised(jnp.asarray(EMPTY[:8]) * 0, 1.0))
    leapt = jumping._leapt(log_p, jnp.zeros((8, T), int), 1.0, 1 - 1 / 2000)
    chances = np.exp(np.asarray(leapt))
    np.testing.assert_allclose(chances[..., 0], 1.0)
    assert (chances[..., 1:] < 1e-20).all()


@pytest.mark.parametrize("sampler", ["ancestral", "tau_leaping"])
def test_tokens_that_change_end_as_the_table_has_them(sampler):
    rows = drawn(sampler, steps=200, predict=by_posterior, given=EMPTY[:3_000], of=jumping)
    assert likely(rows) > 1e-3
    one = drawn(sampler, steps=1, predict=by_posterior, given=EMPTY[:3_000], of=jumping)
    assert likely(one, MARGINALS) > 1e-3 and likely(one) < 1e-9
