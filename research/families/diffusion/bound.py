"""The variational bound of a diffusion model, in nats per image (Kingma 2021, sections 4 and 5).

-log p(x) <= prior + reconstruction + diffusion. The first two have no network in them and are
exact here; only the third is sampled. Its continuous limit does not depend on the schedule's path,
only on the two ends, and with the exact denoiser it is the mutual information (I-MMSE).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.families.diffusion.process import Process, along, step_back, stratified_times
from research.families.diffusion.schedule import Schedule
from research.levels import gap

# (x_t of a process, gamma [batch], which of the images each is [batch]) -> eps
Predict = Callable[[Array, Array, Array], Array]


def level_log_probabilities(z0: np.ndarray, gamma_min: float, levels: int) -> np.ndarray:
    """log p(x | z_0) of every level, float64 [..., levels] (Kingma 2021, eq. 58).

    Args:
        z0: noisy pixels rescaled to the data's range, x + exp(gamma_min / 2) eps, [...].
    """
    x = np.arange(levels) * gap(levels) - 1
    logits = -0.5 * np.exp(-gamma_min) * (z0[..., None] - x) ** 2
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@functools.cache
def reconstruction_table(gamma_min: float, levels: int) -> np.ndarray:
    """Expected -log p(x | z_0) for x each of the levels, nats, float32 [levels].

    One Gaussian integral a level; the trapezoid rule is exact to rounding on a smooth integrand.
    """
    noise = np.linspace(-8.0, 8.0, 161)
    weight = np.exp(-0.5 * noise**2)
    weight /= weight.sum()
    half = np.empty((levels + 1) // 2)
    for level in range(len(half)):
        z0 = level * gap(levels) - 1 + np.exp(0.5 * gamma_min) * noise
        half[level] = -weight @ level_log_probabilities(z0, gamma_min, levels)[:, level]
    mirrored = half[::-1][levels % 2 :]  # level v mirrors levels - 1 - v
    return np.concatenate([half, mirrored]).astype(np.float32)


def reconstruction(image: Array, gamma_min: float, levels: int) -> Array:
    """E[-log p(x | z_0)] in nats, [batch]: softmax over levels, Gaussian for floats.

    The Gaussian has mean z_0 / alpha_0 and variance exp(gamma_min), the noise still in z_0.
    """
    axes = tuple(range(1, image.ndim))
    if jnp.issubdtype(image.dtype, jnp.integer):
        return jnp.sum(jnp.asarray(reconstruction_table(gamma_min, levels))[image], axes)
    per_dimension = 0.5 * (np.log(2 * np.pi) + gamma_min + 1)
    return jnp.full(image.shape[0], per_dimension * image[0].size, jnp.float32)


def prior(x0: Array, gamma_max: float) -> Array:
    """KL(q(z_1 | x) || N(0, 1)) in nats, [batch] (Kingma 2021, eq. 11)."""
    alpha_squared = jax.nn.sigmoid(-jnp.float32(gamma_max))
    rest = jax.nn.softplus(-jnp.float32(gamma_max)) - alpha_squared  # -log sigma^2 + sigma^2 - 1
    return 0.5 * jnp.sum(alpha_squared * x0**2 + rest, axis=tuple(range(1, x0.ndim)))


def diffusion_weight(schedule: Schedule, times: Array, num_steps: int = 0) -> tuple[Array, Array]:
    """gamma at which to look and nats per squared error in eps there, each [batch].

    `num_steps` = 0 is continuous time, gamma'(t) / 2 (Kingma 2021, eq. 17); otherwise the process
    has that many steps and t is rounded up to one: T expm1(gamma_t - gamma_s) / 2 (eq. 14).
    """
    if num_steps == 0:
        gamma, slope = schedule(times)
        return gamma, 0.5 * slope
    step = jnp.floor(times * num_steps)
    gamma_s, gamma_t = schedule(step / num_steps)[0], schedule((step + 1) / num_steps)[0]
    return gamma_t, 0.5 * num_steps * jnp.expm1(gamma_t - gamma_s)


def step_divergence(gamma_t: Array, gamma_s: Array, x0: Array, guess: Array, place: Array) -> Array:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) of one step back, nats a dimension, [batch].

    p has the mean of q with the network's `guess` in the place of x_0, through which no gradient
    passes, and the variance at `place` (Nichol 2021, eq. 4).
    """
    gamma_t, gamma_s = along(gamma_t, x0), along(gamma_s, x0)
    share, true = step_back(gamma_t, gamma_s)
    _, variance = step_back(gamma_t, gamma_s, place)
    error = share * (x0 - jax.lax.stop_gradient(guess))
    nats = 0.5 * (jnp.log(variance / true) + (true + error**2) / variance - 1)
    return nats.mean(tuple(range(1, x0.ndim)))


def diffusion(
    predict: Predict,
    process: Process,
    schedule: Schedule,
    x0: Array,
    key: Array,
    time_samples: int = 1,
    num_steps: int = 0,
) -> Array:
    """Unbiased estimate of the diffusion term in nats, [batch].

    Every image is seen at `time_samples` evenly spaced times, all in one call of `predict`.
    """
    time_key, noise_key = jax.random.split(key)
    batch = x0.shape[0]
    times = stratified_times(time_key, (time_samples, batch)).reshape(-1)
    gamma, weight = diffusion_weight(schedule, times, num_steps)
    repeated = jnp.tile(x0, (time_samples,) + (1,) * (x0.ndim - 1))
    rows = jnp.tile(jnp.arange(batch), time_samples)
    eps = jax.random.normal(noise_key, repeated.shape)
    error = predict(process.add_noise(repeated, eps, gamma), gamma, rows) - eps
    nats = weight * jnp.sum(error**2, axis=tuple(range(1, x0.ndim)))
    return nats.reshape(time_samples, batch).mean(0)
