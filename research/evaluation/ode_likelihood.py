"""Likelihood of a diffusion model by its probability-flow equation (Song 2021, section 4.3).

In y = x / alpha = x_0 + exp(gamma / 2) eps, gamma = -log SNR, the flow is dy / d gamma =
(y - x_0) / 2. It carries N(0, 1), at the variance-preserving scale, from gamma_max to the density
of images that a walk to gamma_min draws; the log of that changes along it by the integral of the
flow's divergence. Runge-Kutta's method of fourth order follows it in even steps of log-SNR.

Of floats it is the density at the image, in bits a dimension: an estimate, as steps are finite and
the divergence is seen by random probes (Hutchinson 1990; `ode_probes` 0 is exact). The density of
levels with uniform noise of one level added bounds what their levels cost, by Jensen's
inequality (Theis 2016, section 3.1): an upper bound, of which each image has one draw. In it is
the logarithm of how far apart levels lie, log2(127.5) of 256. Unlike the variational bound it
depends on the flow alone.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp

from research import levels
from research.errors import UserError
from research.evaluation.intervals import Estimate, Z
from research.families import diffusion
from research.families.diffusion import denoiser
from research.models import numerics

Field = Callable[[Array, Array], Array]  # of (y [B, ...], gamma) -> dy / d gamma, [B, ...]


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for a family that has no flow from noise."""
    if config.family != "diffusion":
        raise UserError(
            "config.evaluation.evaluators: 'ode_likelihood' follows the flow of family "
            f"'diffusion', which config.family={config.family!r} has not"
        )
    if hasattr(diffusion.objective(config), "sample"):
        raise UserError(
            "config.evaluation.evaluators: 'ode_likelihood' follows what a network denoises, and "
            f"config.model.objective={config.model.objective!r} denoises nothing"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = "upper bound" if config.model.discrete else "estimate"
    return {"ode_likelihood": {"unit": "bits/dim", "kind": kind, "better": "lower"}}


def update(config: Any, params: Any, batch: dict[str, Array], key: Array) -> dict[str, Array]:
    """Sums over the images that are not masked: bits a dimension, their squares, the number."""
    noise_key, probe_key = jax.random.split(key)
    x0, known = denoiser.pixels(config, batch["image"]), denoiser.known(config, batch, noise_key)
    fixed_nats = 0.0
    if config.model.discrete:
        gap = levels.gap(config.model.levels)
        x0 += gap * jax.random.uniform(noise_key, x0.shape, minval=-0.5, maxval=0.5)
        fixed_nats = -np.log(gap)
    process = denoiser.make_process(config)

    def field(y: Array, gamma: Array) -> Array:
        given = known._replace(gamma_B=jnp.full(len(y), gamma))
        x_t = y * process.scales(gamma)[0]
        return 0.5 * (y - denoiser.predict_x0(config, params, x_t, given))

    model, settings = config.model, config.evaluation
    probes = make_probes(probe_key, x0.shape, settings.ode_probes)
    ends = model.gamma_min, model.gamma_max
    nats_B = -log_density(field, x0, ends, settings.ode_steps, probes)
    bits_B = (nats_B / x0[0].size + fixed_nats) / np.log(2)
    rows_B = batch["mask"]
    sums = {"total": bits_B, "squares": bits_B**2, "count": jnp.ones_like(bits_B)}
    return {name: jnp.sum(rows_B * each_B) for name, each_B in sums.items()}


def finish(config: Any, sums: dict[str, Any]) -> dict[str, Estimate]:
    """The mean over images, with the interval that images, noise and probes give it."""
    count = sums["count"]
    mean = sums["total"] / count
    variance = max(sums["squares"] / count - mean**2, 0.0) / max(count - 1, 1)
    half = Z * variance**0.5
    return {"ode_likelihood": Estimate(mean, (mean - half, mean + half))}


def make_probes(key: Array, shape: tuple[int, ...], count: int) -> Array:
    """Vectors v [probes, B or 1, ...] for which the mean of v^T J v is the trace of J.

    Random signs of each image (Hutchinson 1990); 0 of them are the scaled axes, which are exact.
    """
    if count:
        return jax.random.rademacher(key, (count, *shape), jnp.float32)
    size = int(np.prod(shape[1:]))
    return (np.sqrt(size) * jnp.eye(size)).reshape(size, 1, *shape[1:])


def log_density(
    field: Field, x0: Array, ends: tuple[float, float], steps: int, probes: Array
) -> Array:
    """Natural log of the density at `x0` [B, ...] of what `field` makes of N(0, 1), [B].

    Args:
        ends: gamma of the images and gamma of the noise.
        probes: of `make_probes`.
    """
    gammas = jnp.linspace(*ends, steps + 1, dtype=x0.dtype)
    slope = functools.partial(_slope, field, probes.astype(x0.dtype))

    def step(state: tuple[Array, Array], span: tuple[Array, Array]) -> Any:
        start, stop = span
        width, middle = stop - start, 0.5 * (start + stop)

        def ahead(share: float, change: tuple[Array, Array]) -> tuple[Array, Array]:
            return jax.tree.map(lambda x, dx: x + share * width * dx, state, change)

        first = slope(state, start)
        second = slope(ahead(0.5, first), middle)
        third = slope(ahead(0.5, second), middle)
        fourth = slope(ahead(1.0, third), stop)
        mean = jax.tree.map(
            lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth
        )
        return ahead(1.0, mean), None

    start = x0, jnp.zeros(len(x0), x0.dtype)
    (y, gained_B), _ = jax.lax.scan(step, start, (gammas[:-1], gammas[1:]))
    log_alpha = 0.5 * jax.nn.log_sigmoid(-gammas[-1])
    nats = 0.5 * (jnp.exp(log_alpha) * y) ** 2 + 0.5 * np.log(2 * np.pi) - log_alpha
    return gained_B - jnp.sum(nats, tuple(range(1, y.ndim)))


def _slope(
    field: Field, probes: Array, state: tuple[Array, Array], gamma: Array
) -> tuple[Array, Array]:
    """dy / d gamma, and the divergence of it as the probes see it, [B]."""
    y, axes = state[0], tuple(range(1, state[0].ndim))

    def add(carry: tuple[Array, Array], probe: Array) -> tuple[tuple[Array, Array], None]:
        probe = jnp.broadcast_to(probe, y.shape)
        with numerics.forwards():
            change, pushed = jax.jvp(lambda y: field(y, gamma), (y,), (probe,))
        return (change, carry[1] + jnp.sum(probe * pushed, axes)), None

    start = y, jnp.zeros(len(y), y.dtype)
    (change, sum_B), _ = jax.lax.scan(add, start, probes)
    return change, sum_B / len(probes)
