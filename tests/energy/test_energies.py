"""Energies, chains and annealing against enumeration, exact samples and known normalisers."""

import functools
import math

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict
from scipy import stats

from research import defaults
from research.config import frozen
from research.data.sources import ising
from research.families import energy as family
from research.families.energy import (
    annealed,
    gibbs,
    hamiltonian,
    langevin,
    noise_contrastive,
    pairwise,
    rbm,
    score_matching,
)

KEY = jax.random.key(3)


def config_of(energy="rbm", side=(2, 3), width=2, **model):
    named = {"objective": model.pop("objective", "contrastive"), "energy": energy}
    config = defaults.config("energy", "ising", **named, chain="gibbs")
    config.model.update(image_shape=(*side, 1), levels=2, **model)
    if "width" in config.model:
        config.model.width = width
    return config


def drawn(config, scale=0.8, seed=0):
    """Parameters that are far from even."""
    generator = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: family.init(config, KEY))
    return jax.tree.map(
        lambda x: jnp.asarray(scale * generator.normal(size=x.shape), x.dtype), shapes
    )


def everything(config):
    size = math.prod(config.model.image_shape)
    return jnp.asarray(2 * rbm.states(size) - 1).reshape(-1, *config.model.image_shape)


def log_p(config, params):
    """log p of every image, and log Z, in float64 by enumeration."""
    nats = np.asarray(family.energy(config, params, everything(config)), np.float64)
    log_z = np.logaddexp.reduce(-nats)
    return -nats - log_z, log_z


def test_hidden_units_are_summed_out():
    config = config_of()
    params = drawn(config)
    own = {name: np.asarray(each, np.float64) for name, each in params["energy"].items()}
    for x in np.asarray(everything(config)):
        v = 0.5 * (x.ravel() + 1)
        states = rbm.states(2)
        joint = v @ own["visible"] + states @ own["hidden"] + states @ (v @ own["weight"])
        found = family.energy(config, params, x[None])[0]
        assert float(found) == pytest.approx(-np.logaddexp.reduce(joint), rel=1e-5)


@pytest.mark.parametrize("width", [2, 9])  # hidden units are gone through, or those of the image
def test_log_z_of_a_machine_is_the_sum_over_images(width):
    config = config_of(width=width)
    params = drawn(config)
    found = rbm.log_z(config.model, params["energy"])
    assert float(found) == pytest.approx(log_p(config, params)[1], rel=1e-5)


@pytest.mark.parametrize(
    "side, beta, log_z", [((4, 4), 0.2, 11.771470), ((4, 4), 0.4406868, 15.521915),
                          ((8, 8), 0.4406868, 60.141781)]
)  # fmt: skip
def test_log_z_of_equal_couplings_is_the_ising_models(side, beta, log_z):
    params = {"field": jnp.zeros(side), "down": jnp.full(side, beta), "right": jnp.full(side, beta)}
    assert float(pairwise.log_z(None, params)) == pytest.approx(log_z, abs=2e-4)
    data = dict(height=side[0], width=side[1], beta=beta)
    images = np.random.default_rng(0).integers(0, 2, (5, *side, 1))
    nats = pairwise.energy(None, None, params, jnp.asarray(2.0 * images - 1))
    np.testing.assert_allclose(nats, beta * ising.energy(images), rtol=1e-5, atol=1e-5)
    expected = -np.asarray(nats) - log_z
    np.testing.assert_allclose(ising.log_probability(data, images), expected, atol=1e-3)


def test_log_z_of_any_couplings_is_the_sum_over_lattices():
    config = config_of("pairwise", side=(4, 4))
    params = drawn(config, 0.6)
    found = float(pairwise.log_z(config.model, params["energy"]))
    assert found == pytest.approx(log_p(config, params)[1], rel=1e-5)


def counts(config, x):
    """How often each image of `everything` is among x."""
    bits = (np.asarray(x).reshape(len(x), -1) > 0).astype(int)
    numbers = bits @ 2 ** np.arange(bits.shape[1])
    return np.bincount(numbers, minlength=2 ** bits.shape[1])


def fits(config, params, x):
    """The p-value of samples x under the enumerated model, of images that are seen often enough."""
    expected = len(x) * np.exp(log_p(config, params)[0])
    seen, often = counts(config, x), expected > 20
    observed, whole = seen[often], expected[often]
    if not often.all():
        observed, whole = (np.append(each[often], each[~often].sum()) for each in (seen, expected))
    return stats.chisquare(observed, whole * (observed.sum() / whole.sum())).pvalue


@pytest.mark.parametrize("energy, side", [("rbm", (2, 3)), ("pairwise", (4, 4))])
def test_exact_samples_have_their_probabilities_and_a_sweep_leaves_them(energy, side):
    config = config_of(energy, side)
    params = drawn(config)
    of = family.energy_part(config)
    x = of.draw(config.model, params["energy"], KEY, 20_000)
    assert fits(config, params, x) > 1e-3
    move = jax.jit(functools.partial(family.move, config))
    for index in range(3):
        x, accepted = move(params, x, jax.random.fold_in(KEY, index))
    assert fits(config, params, x) > 1e-3 and accepted == 1
    other = family.base(config, KEY, 20_000)
    assert fits(config, params, other) < 1e-6


def test_flips_by_gradients_leave_the_model():
    """Of a network of two levels, whose moves are proposed and taken or not."""
    config = config_of()
    params = drawn(config)
    energy = functools.partial(family.energy, config, params)
    x = rbm.draw(config.model, params["energy"], KEY, 20_000)
    move = jax.jit(lambda x, key: gibbs.move(config.model, energy, None, x, key, 1.0))
    for index in range(5):
        x, accepted = move(x, jax.random.fold_in(KEY, index))
    assert fits(config, params, x) > 1e-3
    assert 0.2 < accepted < 1


def quartic(x, label=None, beta=1.0):
    return beta * (0.25 * x**4 - x**2 + 0.3 * x).sum((1, 2, 3))


def exact_quartic(num):
    grid = np.linspace(-4, 4, 20_001)
    density = np.exp(-np.asarray(quartic(grid[:, None, None, None])))
    cdf = np.cumsum(density) / density.sum()
    u = np.random.default_rng(0).uniform(size=num)
    return np.interp(u, cdf, grid).astype(np.float32).reshape(-1, 1, 1, 1), (grid, cdf)


CHAINS = {
    "mala": (langevin, dict(step_size=0.5, noise=1.0, adjusted=True), True),
    "hmc": (hamiltonian, dict(step_size=0.4, leapfrog_steps=5), True),
    "unadjusted": (langevin, dict(step_size=0.5, noise=1.0, adjusted=False), False),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_adjusted_chains_leave_a_density_as_it_is(chain):
    """Whatever the size of their steps; without the adjustment a long step is seen."""
    module, keys, right = CHAINS[chain]
    x, (grid, cdf) = exact_quartic(20_000)
    model = FrozenConfigDict(keys)
    move = jax.jit(lambda x, key: module.move(model, quartic, None, x, key, 1.0))
    for index in range(6):
        x, accepted = move(x, jax.random.fold_in(KEY, index))
    p_value = stats.kstest(np.asarray(x).ravel(), lambda v: np.interp(v, grid, cdf)).pvalue
    assert (p_value > 1e-3) == right
    assert (accepted < 1) == right and accepted > 0.2


@pytest.mark.parametrize("energy, side", [("rbm", (3, 4)), ("pairwise", (4, 4))])
def test_truth_lies_inside_and_the_gap_closes_with_temperatures(energy, side):
    """Gaps of a few chains on average over seeds, as a bound holds in expectation."""
    config = config_of(energy, side, width=6)
    params = drawn(config, 1.5 if energy == "rbm" else 0.7)
    truth, gaps = log_p(config, params)[1], []
    for temperatures in (3, 10, 100):
        config.evaluation.update(temperatures=temperatures, chains=20)
        found = [family.before_bounds(config, params, jax.random.key(seed)) for seed in range(40)]
        assert float(found[0]["exact"]) == pytest.approx(truth, rel=1e-5)
        low, high = (
            np.mean([each[name].log_z for each in found]) for name in ("ais", "reverse_ais")
        )
        error = np.mean([family.shared_error(config, each) for each in found]) / math.sqrt(40)
        assert low - 3 * error < truth < high + 3 * error
        gaps.append(high - low)
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < gaps[0] / 10 + 0.05
    kinds = family.bound_kinds(config)
    assert kinds == {"ais": "lower bound", "reverse_ais": "upper bound", "exact": "exact"}


def test_few_chains_lie_below_on_average():
    """Jensen's inequality: the logarithm of a mean of few weights is low, and back it is high."""
    config = config_of("rbm", (2, 3), width=3)
    params = drawn(config, 2.0)
    config.evaluation.update(temperatures=4, chains=2)
    of = jax.jit(lambda key: family.before_bounds(config, params, key))
    found = [of(jax.random.key(seed)) for seed in range(150)]
    exact = float(found[0]["exact"])
    low, high = (
        np.array([float(each[name].log_z) for each in found]) for name in ("ais", "reverse_ais")
    )
    for each, side in ((low, -1), (high, 1)):
        assert side * (each.mean() - exact) > 3 * each.std() / math.sqrt(len(each)) > 0


def test_one_temperature_more_is_the_textbooks_importance_sampling():
    """Of two temperatures there is one weight: exp(E_0 - E_1) of samples of the base."""
    config = config_of()
    params = drawn(config)
    x = family.base(config, KEY, 300)
    of = annealed.Model(
        energy=lambda x, beta: family.energy(config, params, x, beta=beta),
        move=lambda x, key, beta: family.move(config, params, x, key, beta)[0],
        base_log_z=rbm.base_log_z(config.model),
    )
    found = annealed.forward(of, x, 2, KEY)
    weights = np.asarray(of.energy(x, 0.0) - of.energy(x, 1.0), np.float64)
    expected = rbm.base_log_z(config.model) + np.logaddexp.reduce(weights) - np.log(300)
    assert float(found.log_z) == pytest.approx(expected, rel=1e-5)


def test_chains_that_have_come_to_the_model_give_the_likelihoods_gradient():
    config = config_of(starts="data", chain_steps=200)
    params, true = drawn(config), drawn(config, seed=9)
    x = rbm.draw(config.model, true["energy"], KEY, 20_000)

    def value(params):
        return family.objective_part(config).value(config, params, x, None, {}, KEY)[0]

    found = jax.jit(jax.grad(value))(params)["energy"]

    def nats(own):
        return family.energy(config, {"energy": own}, x).mean() + rbm.log_z(config.model, own)

    exact = jax.grad(nats)(params["energy"])
    for name in exact:  # a chain's error, of means of numbers from 0 to 1
        np.testing.assert_allclose(found[name], exact[name], atol=4 * 0.5 / math.sqrt(20_000) * 2)
    assert max(np.abs(each).max() for each in exact.values()) > 0.1


def test_contrasted_with_noise_the_best_scale_is_log_z():
    config = config_of(objective="noise_contrastive")
    params = drawn(config)
    truth = log_p(config, params)[1]
    x = rbm.draw(config.model, params["energy"], KEY, 50_000)

    def cost(scale):
        given = params | {"objective": {"log_scale": jnp.full(1, scale)}}
        return noise_contrastive.value(config, given, x, None, {}, KEY)[0]

    slope, error = float(jax.grad(cost)(-truth)), 1 / math.sqrt(50_000)
    assert abs(slope) < 3 * error
    assert float(cost(-truth)) < min(float(cost(-truth - 1)), float(cost(-truth + 1)))


def test_the_score_that_is_matched_is_that_of_the_noisy_data(monkeypatch):
    """Of normal data of variance v the best normal energy has the variance v + sigma^2."""
    x = jnp.asarray(np.random.default_rng(0).normal(0, 0.7, (200_000, 1, 1, 1)), jnp.float32)
    sigma = 0.6
    given = FrozenConfigDict({"model": {"noise_deviation": sigma}})

    def normal(config, params, x):
        return 0.5 * (x**2).sum((1, 2, 3)) / params

    def cost(variance):
        return score_matching.value(given, variance, x, None, {}, KEY)[0]

    monkeypatch.setattr(family, "energy", normal)
    best = 0.7**2 + sigma**2
    slopes = [float(jax.grad(cost)(best * times)) for times in (0.8, 1.0, 1.25)]
    assert slopes[0] < -0.03 < -abs(slopes[1]) and slopes[2] > 0.02
    assert abs(slopes[1]) < 0.005


def test_a_network_of_classes_is_a_classifier():
    config = defaults.config("energy", "gaussian_mixture")
    config.model.update(image_shape=(8, 8, 1), discrete=False, num_classes=4, width=8, depth=1)
    params = family.init(config, KEY)
    x = jax.random.normal(KEY, (5, 8, 8, 1))
    joint = np.stack([
        np.asarray(family.energy(config, params, x, jnp.full(5, label))) for label in range(4)
    ])  # fmt: skip
    alone = np.asarray(family.energy(config, params, x))
    np.testing.assert_allclose(alone, -np.logaddexp.reduce(-joint, axis=0), rtol=1e-5)
    cost = family.energy_part(config).class_cost(
        config.model, config.hardware, params["energy"], x, jnp.full(5, 2)
    )
    np.testing.assert_allclose(cost, joint[2] - alone, rtol=1e-4, atol=1e-5)
    assert frozen(config, "model").model.num_classes == 4
