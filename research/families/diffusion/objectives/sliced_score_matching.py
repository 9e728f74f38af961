"""Sliced score matching: a score learned from its own divergence, not from noise (Song 2019).

At each level of noise, sigma^2 (|s|^2 / 2 + v^T grad_x s v) for random directions v estimates the
explicit loss up to a constant (eq. 8: the form with less variance; else (v^T s)^2 / 2 in place of
the first term, eq. 7). In eps = -sigma s it is |eps|^2 / 2 - sigma v^T grad_x eps v, in expectation
the denoising loss |eps - noise|^2 / 2 less half the number of dimensions. What is learned is a
denoiser, with a bound.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.errors import UserError
from research.families.diffusion import denoiser, flow_map, weightings
from research.families.diffusion.objectives.denoising import examples
from research.families.diffusion.objectives.mean_flow import check_hardware, check_network
from research.families.diffusion.process import along, stratified_times
from research.models import common, numerics

__all__ = ["check", "check_hardware", "default_model", "loss"]


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return weightings.default_model() | dict(projections=1, reduced_variance=True)


def check(config: Any) -> None:
    """Raise UserError for directions that cannot be, or a network it cannot differentiate."""
    weightings.check(config.model)
    if config.model.projections < 1:
        raise UserError(f"config.model.projections={config.model.projections} must be at least 1")
    flow_map.check(config)
    check_network(config)


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch.

    The metric `mse` is that of denoising's loss, of eps: the same in expectation.
    """
    del step, reference
    model, of = config.model, denoiser.make_process(config)
    x0 = denoiser.pixels(config, batch["image"])
    time_key, noise_key, drop_key, slice_key = jax.random.split(key, 4)
    known = denoiser.hide(config, drop_key, denoiser.known(config, batch, drop_key))
    gamma_B, slope_B = denoiser.make_schedule(config)(stratified_times(time_key, x0.shape[:1]))
    x_t = of.add_noise(x0, jax.random.normal(noise_key, x0.shape), gamma_B)
    sigma = along(of.scales(gamma_B)[1], x_t)

    def see(x_t: Array) -> tuple[Array, dict[str, Array]]:
        with numerics.forwards():
            output, measures = denoiser.apply(config, params, x_t, known._replace(gamma_B=gamma_B))
        return of.to_eps(output, x_t, gamma_B), measures

    def sliced(key: Array) -> tuple[Array, dict[str, Array]]:
        v = jax.random.rademacher(key, x_t.shape, x_t.dtype)
        eps, change, measures = jax.jvp(see, (x_t,), (v,), has_aux=True)
        square_B = jnp.sum(eps**2, axis=(1, 2, 3))
        if not model.reduced_variance:
            square_B = jnp.sum(v * eps, axis=(1, 2, 3)) ** 2
        return 0.5 * square_B - jnp.sum(sigma * v * change, axis=(1, 2, 3)), measures

    found_PxB, measures = jax.lax.map(sliced, jax.random.split(slice_key, model.projections))
    measures = jax.tree.map(jnp.mean, measures)
    mse_B = 2 * found_PxB.mean(0) / x0[0].size + 1
    rows_B = examples(batch)
    weight_B = weightings.of_eps(model, of, gamma_B, slope_B)
    value = jnp.average(weight_B * mse_B, weights=rows_B) + measures.pop("penalty", 0.0)
    return value, {"mse": jnp.average(mse_B, weights=rows_B), **measures}
