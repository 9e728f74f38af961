"""Bounds against a table of which all conditionals are known: sums and integrals, no samples."""

import itertools
import math
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy.special import beta
from scipy.stats import chisquare

from research.families.discrete_diffusion import absorbing as hiding
from research.families.discrete_diffusion import noise_levels, uniform_noise
from research.families.discrete_diffusion.noise_levels import Level
from tests.discrete import truth
from tests.discrete.truth import ENTROPY, JOINT, SETS, TEXTS, T, V

absorbing: Any = hiding  # which is given arrays of either kind
PAIRS = [*itertools.product(range(len(TEXTS)), range(1, len(SETS)))]
TEXT = TEXTS[[text for text, _ in PAIRS]]
HIDDEN = SETS[[which for _, which in PAIRS]]
READ = np.where(HIDDEN, V, TEXT)
MANY = HIDDEN.sum(1)


@pytest.fixture(autouse=True)
def _in_double():
    with jax.enable_x64(True):
        yield


def true_log_p():
    return truth.log_p(truth.shown(READ, V))


def any_log_p():
    """Conditionals that no joint table has."""
    drawn = np.random.default_rng(0).normal(size=(V + 1,) * T + (T, V))
    return jax.nn.log_softmax(jnp.asarray(drawn[tuple(READ.T)]))


def costs(log_p, share, slope=1.0, lower=None):
    """The bound's nats of each (text, hidden set) at shares [pairs]."""
    level = [None if x is None else np.broadcast_to(x, MANY.shape)[:, None] for x in (share, lower)]
    level = Level(level[0], np.full((len(MANY), 1), slope), level[1])
    found = absorbing.costs(truth.config(), truth.Head, {}, log_p, TEXT, READ, V, level)
    return np.asarray(found[0].sum(1))


def by_text(chance, nats):
    """Sums over hidden sets, [81]."""
    return np.bincount([text for text, _ in PAIRS], chance * nats, len(TEXTS))


def of_sets(many, size=T):
    """The chance of a set of so many when numbers are even, and sets of one number are."""
    return 1 / (size * np.array([math.comb(size, m) for m in many]))


def test_the_bound_with_true_conditionals_is_the_entropy():
    found = by_text(of_sets(MANY), costs(true_log_p(), (MANY - 0.5) / T))
    assert JOINT @ found == pytest.approx(ENTROPY, abs=1e-9)
    np.testing.assert_allclose(found, -np.log(JOINT), atol=1e-9)


@pytest.mark.parametrize("log_p", [true_log_p, any_log_p])
def test_it_is_the_integral_over_time_and_the_mean_over_orders(log_p):
    """The weights 1 / t of MDLM are Beta functions; each text has them, whatever the network."""
    table = log_p()
    found = by_text(of_sets(MANY), costs(table, (MANY - 0.5) / T))
    chosen = np.take_along_axis(np.asarray(table), TEXT[..., None], -1)[..., 0]
    nats = -(chosen * HIDDEN).sum(1)
    integral = by_text(beta(MANY, T - MANY + 1), nats)
    np.testing.assert_allclose(found, integral, atol=1e-9)
    row = {pair: index for index, pair in enumerate(PAIRS)}
    bits = {tuple(places): index for index, places in enumerate(SETS)}
    orders = np.zeros(len(TEXTS))
    for order in itertools.permutations(range(T)):
        for step, at in enumerate(order):
            left = bits[tuple(place in order[step:] for place in range(T))]
            rows = [row[text, left] for text in range(len(TEXTS))]
            orders -= chosen[rows, at] / math.factorial(T)
    np.testing.assert_allclose(found, orders, atol=1e-9)


INVERSE = {
    "linear": lambda h: h,
    "cosine": lambda h: 1 - 2 / np.pi * np.arccos(h),
    "polynomial": lambda h: h ** (1 / 3),
}


@pytest.mark.parametrize("schedule", noise_levels.SCHEDULES)
def test_no_schedule_changes_the_bound(schedule):
    """The integral over t, piece by piece of one number of hidden tokens, by Gauss's rule."""
    model = truth.config(schedule=schedule, schedule_power=3.0).model
    nodes, weight = np.polynomial.legendre.leggauss(24)
    total, table = 0.0, any_log_p()
    for many in range(1, T + 1):
        low, high = (float(INVERSE[schedule](h)) for h in ((many - 1) / T, many / T))
        level = noise_levels.level(model, jnp.asarray((low + high) / 2 + (high - low) / 2 * nodes))
        assert set(np.floor(np.asarray(level.share) * T)) == {many - 1}
        nats = costs(table, (many - 0.5) / T)
        each = JOINT @ by_text((many == MANY) * T * of_sets(MANY), nats)
        total += (high - low) / 2 * weight @ np.asarray(level.slope) * each
    expected = JOINT @ by_text(of_sets(MANY), costs(table, (MANY - 0.5) / T))
    assert total == pytest.approx(expected, abs=1e-9)
    mean, times = noise_levels.mean_share(model), (np.arange(4_000) + 0.5) / 4_000
    assert noise_levels.level(model, jnp.asarray(times)).share.mean() == pytest.approx(mean, 1e-4)


def in_steps(steps, log_p, schedule="linear"):
    """The bound of a process in steps: every step, every set by its coins."""
    model, total = truth.config(schedule=schedule).model, 0.0
    for step in range(steps):
        level = noise_levels.level_in_steps(model, jnp.asarray((step + 0.5) / steps), steps)
        share, slope, lower = (float(x) for x in level)
        chance = share**MANY * (1 - share) ** (T - MANY) / steps
        total += JOINT @ by_text(chance, costs(log_p, share, slope, lower))
    return total


def test_bounds_in_steps_fall_to_the_continuous_one():
    """One step pays the sum of the entropies of all tokens, many steps the joint one."""
    table = true_log_p()
    found = [in_steps(steps, table) for steps in (1, 2, 4, 16, 256)]
    marginals = [np.bincount(TEXTS[:, at], JOINT) for at in range(T)]
    assert found[0] == pytest.approx(-sum(p @ np.log(p) for p in marginals), abs=1e-9)
    assert found == sorted(found, reverse=True)
    assert ENTROPY < found[-1] < ENTROPY + 0.01
    assert in_steps(4, table, "cosine") > ENTROPY


@pytest.mark.parametrize("size", [1, 2, 4])
def test_blocks_one_after_another_are_the_entropy_too(size):
    """Of one token each they are autoregression, of all tokens masked diffusion."""
    blocks, total = T // size, np.zeros(len(TEXTS))
    inside = [*itertools.product((False, True), repeat=size)][1:]
    for sets in itertools.product(inside, repeat=blocks):
        hidden = np.array(sets)
        many = hidden.sum(1)
        draft = np.where(hidden.reshape(-1), V, TEXTS)
        seen = [
            np.concatenate([TEXTS[:, :at], draft[:, at : at + size], np.full((81, T), V)], 1)[:, :T]
            for at in range(0, T, size)
        ]
        each = [truth.log_p(truth.shown(read, V))[:, i * size :][:, :size]
                for i, read in enumerate(seen)]  # fmt: skip
        level = Level(np.tile((many - 0.5) / size, (81, 1)), np.ones((81, blocks)))
        nats, _ = absorbing.costs(
            truth.config(), truth.Head, {}, jnp.concatenate(each, 1), TEXTS, draft, V, level
        )
        total += of_sets(many, size).prod() * np.asarray(nats.sum(1))
    np.testing.assert_allclose(total, -np.log(JOINT), atol=1e-9)


def test_sets_of_hidden_tokens_are_even():
    """Of the number that the share says, all as likely; by coins in a process of steps."""
    tokens = jnp.zeros((12_000, T), jnp.int32)
    share = jnp.full((12_000, 1), 0.3)  # 1 + floor(1.2) of four
    read = absorbing.noisy(truth.config(), jax.random.key(0), tokens, V, Level(share, share))
    pairs = np.asarray(read == V)
    assert (pairs.sum(1) == 2).all()
    assert chisquare(np.bincount(pairs @ 2 ** np.arange(T))[[3, 5, 9, 6, 10, 12]]).pvalue > 1e-3
    read = absorbing.noisy(truth.config(), jax.random.key(0), tokens, V, Level(share, share, share))
    counts = np.bincount(np.asarray((read == V).sum(1)), minlength=T + 1)
    expected = [12_000 * math.comb(T, m) * 0.3**m * 0.7 ** (T - m) for m in range(T + 1)]
    assert chisquare(counts, expected).pvalue > 1e-3


def uniform_bound(cost, share, slope=1.0, lower=None):
    """The mean over texts and their noise of what a time costs, with the true posterior."""
    likelihood = np.asarray(truth.noised(TEXTS, share))  # of x_t, for each x_0
    log_p = truth.log_p(likelihood)
    seen, text = (x.reshape(-1) for x in np.meshgrid(range(81), range(81), indexing="ij"))
    level = Level(*(None if x is None else jnp.full((len(seen), 1), x)
                    for x in (share, slope, lower)))  # fmt: skip
    nats = cost(log_p[seen], jnp.asarray(TEXTS[text]), jnp.asarray(TEXTS[seen]), level)
    return float((JOINT[text] * likelihood[seen, text]) @ np.asarray(nats.sum(1)))


def test_uniform_noise_with_the_true_posterior_is_the_entropy():
    """The integral over the share of noise h = z^4, for it has logs at 0, by Gauss's rule."""
    nodes, weight = np.polynomial.legendre.leggauss(32)
    places = (nodes + 1) / 2
    found = [uniform_bound(uniform_noise.in_time, z**4, 4 * z**3) for z in places]
    assert weight @ found / 2 == pytest.approx(ENTROPY, abs=1e-6)


def test_uniform_noise_in_steps_falls_to_the_entropy():
    def bound(steps):
        ends = np.arange(steps + 1) / steps
        each = [
            uniform_bound(uniform_noise.in_steps, high, steps * (high - low), low) / steps
            for low, high in itertools.pairwise(ends)
        ]
        return sum(each)

    found = [bound(steps) for steps in (1, 2, 4, 16)]
    marginals = [np.bincount(TEXTS[:, at], JOINT) for at in range(T)]
    assert found[0] == pytest.approx(-sum(p @ np.log(p) for p in marginals), abs=1e-9)
    assert found == sorted(found, reverse=True) and found[-1] > ENTROPY


def test_a_step_of_uniform_noise_is_the_true_one():
    """p(x_s | x_t) of each token, by the table; and its rate is that of a short step."""
    share, lower = 0.6, 0.45
    seen = truth.noised(TEXTS, share)
    found = np.exp(uniform_noise.before(truth.log_p(seen), jnp.asarray(TEXTS), share, lower))
    left = (1 - share) / (1 - lower)
    one = np.eye(V)
    keep, first = (k * one + (1 - k) / V for k in (left, 1 - lower))
    each = one[TEXTS]  # [81, T, V]
    weight = np.asarray(seen) * JOINT / (np.asarray(seen) @ JOINT)[:, None]
    # q(x_s | x_t, x_0) of the token: chance of x_t from x_s, of x_s from x_0, over x_t from x_0.
    expected = np.zeros_like(found)
    whole = (1 - share) * one + share / V
    for row, text in itertools.product(range(81), range(81)):
        for at in range(T):
            x, z = TEXTS[row, at], TEXTS[text, at]
            expected[row, at] += weight[row, text] * keep[:, x] * first[z] / whole[z, x]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    near = np.exp(uniform_noise.before(truth.log_p(seen), jnp.asarray(TEXTS), share, share - 1e-6))
    rate = np.asarray(uniform_noise.ratios(truth.log_p(seen), jnp.asarray(TEXTS), share))
    away = each == 0
    expected = 1e-6 / (1 - share) / V * rate
    np.testing.assert_allclose(near[away], expected[away], rtol=1e-4)
