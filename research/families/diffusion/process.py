"""The forward process x_t = alpha x_0 + sigma eps and the three ways of predicting its parts.

`gamma` is -log SNR, [batch]; images are [batch, ...]. v = alpha eps - sigma x_0 (Salimans 2022).
"""

import jax
import jax.numpy as jnp
from jax import Array

PREDICTIONS = ("eps", "x0", "v")


def alpha_sigma(gamma: Array, ndim: int) -> tuple[Array, Array]:
    """Scales of signal and noise, each [batch, 1, ...] of rank `ndim`."""
    gamma = gamma.reshape(gamma.shape + (1,) * (ndim - gamma.ndim))
    return jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))


def add_noise(x0: Array, eps: Array, gamma: Array) -> Array:
    """Sample q(x_t | x_0) from its noise `eps` (Kingma 2021, eq. 1)."""
    alpha, sigma = alpha_sigma(gamma, x0.ndim)
    return alpha * x0 + sigma * eps


def target(prediction: str, x0: Array, eps: Array, gamma: Array) -> Array:
    """What a network that predicts `prediction` should return."""
    alpha, sigma = alpha_sigma(gamma, x0.ndim)
    return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}[prediction]


def to_eps(prediction: str, output: Array, x_t: Array, gamma: Array) -> Array:
    """The noise implied by a network's `output`."""
    alpha, sigma = alpha_sigma(gamma, x_t.ndim)
    if prediction == "eps":
        return output
    if prediction == "x0":
        return (x_t - alpha * output) / sigma
    return sigma * x_t + alpha * output


def to_x0(prediction: str, output: Array, x_t: Array, gamma: Array) -> Array:
    """The clean image implied by a network's `output` (Tweedie: the posterior mean)."""
    alpha, sigma = alpha_sigma(gamma, x_t.ndim)
    if prediction == "eps":
        return (x_t - sigma * output) / alpha
    if prediction == "x0":
        return output
    return alpha * x_t - sigma * output


def eps_error_weight(prediction: str, gamma: Array) -> Array:
    """Squared error in eps per squared error in `prediction`, [batch]."""
    if prediction == "eps":
        return jnp.ones_like(gamma)
    return jnp.exp(-gamma) if prediction == "x0" else jax.nn.sigmoid(-gamma)


def stratified_times(key: Array, shape: tuple[int, ...]) -> Array:
    """Times in [0, 1): each is uniform, together they are evenly spaced (Kingma 2021, app. I.1).

    For a shape [samples, batch] every column is evenly spaced too.
    """
    count = 1
    for size in shape:
        count *= size
    grid = jnp.arange(count, dtype=jnp.float32).reshape(shape) / count
    return jnp.mod(jax.random.uniform(key) + grid, 1.0)
