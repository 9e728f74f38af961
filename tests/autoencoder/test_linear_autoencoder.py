"""Linear autoencoders are probabilistic PCA: bounds around a likelihood that is known exactly."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import stats

from research import programs
from research.families import autoencoder
from tests import shapes
from tests.layouts import QUICK

KEY, ROWS, DIMS = jax.random.key(3), 500, 6
DEVIATIONS = 2.0, 1.3, 0.5, 0.45, 0.4, 0.35  # of the data along their own axes


@functools.cache
def data() -> Any:
    generator = np.random.default_rng(0)
    turned, _ = np.linalg.qr(generator.normal(size=(DIMS, DIMS)))
    return generator.normal(size=(ROWS, DIMS)) * DEVIATIONS @ turned + generator.normal(size=DIMS)


@functools.cache
def spectrum() -> Any:
    """Mean, eigenvalues from the greatest on, and their vectors as columns."""
    values, vectors = np.linalg.eigh(np.cov(data().T, bias=True))
    return data().mean(0), values[::-1], vectors[:, ::-1]


def setting(latent=2, deviation=0.0, samples=8) -> Any:
    config = shapes.autoencoder(
        network="mlp_coder", likelihood="gaussian", image_shape=(2, 3, 1), depth=0,
        latent_channels=latent, deviation=deviation,
    )  # fmt: skip
    config.evaluation.importance_samples = samples
    return config


def batch() -> dict[str, Any]:
    return {"image": data().reshape(ROWS, 2, 3, 1).astype(np.float32)}


def optimum() -> tuple[Any, np.ndarray]:
    """Parameters of the greatest likelihood, and -log p of each row by them.

    Tipping & Bishop 1999, equations 7 and 8; the posterior is theirs, equation 6.
    """
    mean, values, vectors = spectrum()
    noise, top = values[2:].mean(), values[:2]
    w = vectors[:, :2] * np.sqrt(top - noise)
    read = w / top
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32),
        jax.eval_shape(lambda: autoencoder.init(setting(), KEY)),
    )
    params["encoder"]["last"]["kernel"][:, :2] = read
    params["encoder"]["last"]["bias"][:] = *(-mean @ read), *np.log(noise / top)
    params["decoder"]["last"] = {"kernel": np.float32(w.T), "bias": np.float32(mean)}
    params["likelihood"]["log_scale"][:] = 0.5 * np.log(noise)
    exact = stats.multivariate_normal(mean, w @ w.T + noise * np.eye(DIMS))
    return params, -exact.logpdf(data())


@functools.cache
def bounded(samples) -> Any:
    config = setting(samples=samples)
    return jax.jit(lambda params: autoencoder.bounds(config, params, batch(), KEY, None))


def test_the_true_posterior_has_no_gap():
    """Whatever the sample, p(x, z) / q(z | x) is p(x): elbo and iwae are exact at each image."""
    params, exact = optimum()
    _, values, _ = spectrum()
    closed = DIMS * np.log(2 * np.pi) + np.log(values[:2]).sum() + DIMS
    closed += (DIMS - 2) * np.log(values[2:].mean())
    assert exact.mean() == pytest.approx(0.5 * closed, rel=1e-9)  # Tipping & Bishop, equation 8
    for nats_B in bounded(4)(params).values():
        np.testing.assert_allclose(nats_B, exact, rtol=2e-5)


def test_the_likelihood_lies_below_its_bounds_and_more_samples_close_the_gap():
    params, exact = optimum()
    params["encoder"]["last"]["bias"] += np.array(
        [0.2, -0.1, 0.8, -0.5], np.float32
    )  # a wrong posterior
    gaps, elbos = [], []
    for samples in (1, 8, 64, 1024):
        found = {name: np.asarray(each) for name, each in bounded(samples)(params).items()}
        assert np.all(found["iwae"] <= found["elbo"] + 1e-4)  # Jensen, of every image
        gaps.append((found["iwae"] - exact).mean())
        elbos.append((found["elbo"] - exact).mean())
    assert gaps[0] == pytest.approx(elbos[0])
    assert gaps[0] > 2 * gaps[1] > 8 * gaps[2] > 0 and gaps[3] < 0.002
    assert elbos[3] == pytest.approx(elbos[2], rel=0.05)


@functools.cache
def trained(latent, deviation) -> Any:
    """Parameters and last metrics of a linear autoencoder, trained on all rows at once."""
    config = setting(latent, deviation)
    state = programs.fresh(config, autoencoder, autoencoder.init(config, KEY))

    def step(state: Any, index: Any) -> Any:
        key, rate = jax.random.fold_in(KEY, index), 0.03 * (1 - index / 2000) ** 2
        return autoencoder.update(config, state, batch(), key, index, rate)

    def run(state: Any) -> Any:
        state, metrics = jax.lax.scan(step, state, jnp.arange(2000))
        return state, jax.tree.map(lambda each: each[-100:].mean(), metrics)

    state, metrics = jax.jit(run, compiler_options=QUICK)(state)
    return jax.tree.map(np.asarray, state["params"]), metrics


@pytest.mark.parametrize("latent, deviation", [(2, 0.0), (4, 0.8)])
def test_training_ends_at_the_greatest_likelihood(latent, deviation):
    """By the closed form, where the noise is learned and where it is given and hides numbers."""
    params, metrics = trained(latent, deviation)
    _, values, _ = spectrum()
    noise = deviation**2 or values[latent:].mean()
    kept = values[:latent][values[:latent] > noise]
    rest = values[len(kept) :]
    best = np.log(kept).sum() + len(kept) + (np.log(noise) + rest / noise).sum()
    best = 0.5 * (best + DIMS * np.log(2 * np.pi))
    w, bias = params["decoder"]["last"]["kernel"], params["decoder"]["last"]["bias"]
    if not deviation:
        noise = np.exp(2 * params["likelihood"]["log_scale"][0])
    exact = stats.multivariate_normal(bias, w.T @ w + noise * np.eye(DIMS)).logpdf(data())
    assert best - 1e-6 <= -exact.mean() < best + 0.005
    bound = float(metrics["bound"]) * DIMS * np.log(2)
    assert best - 0.01 < bound < best + 0.02
    assert float(metrics["active_units"]) == len(kept) == 2
