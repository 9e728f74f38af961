"""Distribution matching distillation: a generator of one step by two scores (Yin 2024, DMD).

The generator maps noise at gamma_max to an image. The gradient of KL(generated || teacher's) at its
images is the difference of two scores of them with noise added (Yin 2024, eqs. 4 and 7): that of a
frozen teacher and that of the `fake` network, which learns to denoise what is generated now. Both
losses are taken in one step, each through its own parameters alone, without pairs for regression
(DMD2, Yin 2024b). The fake network should be the faster: give it a group of config.train.groups
with a larger rate and paths=("fake/*",).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from research.families.diffusion import denoiser, drawing, flow_map, teachers, weightings
from research.families.diffusion.objectives import denoising
from research.families.diffusion.process import along, stratified_times
from research.models import common
from research.models.conditions import Conditions

BOTH = ("generator", "fake")


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`: how the fake network's errors are weighed."""
    return weightings.default_model()


def check(config: Any) -> None:
    """Raise UserError for a teacher that is missing or does not fit."""
    weightings.check(config.model)
    flow_map.check(config)
    teachers.check(config)


def init(config: Any, key: Array) -> common.Params:
    """{"generator", "fake"}, two networks of the teacher's shape."""
    keys = jax.random.split(key, len(BOTH))
    return {name: denoiser.init(config, each) for name, each in zip(BOTH, keys, strict=True)}


def axes(config: Any) -> common.Params:
    """Logical axis names of both."""
    return {name: denoiser.axes(config) for name in BOTH}


def drawn(params: common.Params) -> common.Params:
    """The network that images are drawn with."""
    return params["generator"]


def adopted(params: common.Params) -> common.Params:
    """Both networks as the teacher, which they begin as."""
    return params if set(BOTH) == set(params) else {name: params for name in BOTH}


def reference(config: Any, params: common.Params) -> common.Params:
    """The frozen teacher's."""
    return teachers.parameters(config, params["fake"])


def generate(config: Any, params: common.Params, noise: Array, given: Conditions) -> Array:
    """Images of standard normal noise, [B, H, W, C], in one step."""
    y = drawing.start(config, noise)
    gamma_B = jnp.full(len(y), denoiser.make_schedule(config).gammas[-1])
    return flow_map.predict(config, params, y, given._replace(gamma_B=gamma_B))[0]


def difference(
    config: Any, fake: common.Params, reference: Any, x: Array, eps: Array, given: Conditions
) -> Array:
    """The gradient of the divergence at images x, [B, H, W, C], each of unit scale (eq. 8)."""
    y = flow_map.add_noise(x, eps, given.gamma_B)
    (false, _), (true, _) = (flow_map.predict(config, each, y, given) for each in (fake, reference))
    scale_B = jnp.mean(jnp.abs(x - true), axis=(1, 2, 3))
    return (false - true) / along(scale_B + 1e-6, x)


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any,
) -> tuple[Array, dict[str, Array]]:
    """Both losses of one batch, of which only labels and shapes are used.

    The metrics are the root mean square of the generator's gradient at its images and the error of
    the fake network, `fake_mse`.
    """
    noise_key, time_key, eps_key, fake_key = jax.random.split(key, 4)
    noise = jax.random.normal(noise_key, batch["image"].shape)
    known, rows_B = denoiser.known(config, batch, eps_key), denoising.examples(batch)
    x = generate(config, params["generator"], noise, known)
    gamma_B, _ = denoiser.make_schedule(config)(stratified_times(time_key, noise.shape[:1]))
    fixed, fake = jax.lax.stop_gradient((x, params["fake"]))
    eps = jax.random.normal(eps_key, x.shape)
    change = difference(config, fake, reference, fixed, eps, known._replace(gamma_B=gamma_B))
    moved_B = jnp.mean((x - (fixed - change)) ** 2, axis=(1, 2, 3))  # its gradient is 2 change
    generated = batch | {"image": fixed}
    fake_loss, measures = denoising.loss(config, params["fake"], generated, fake_key, step)
    value = 0.5 * jnp.average(moved_B, weights=rows_B) + fake_loss
    pull = jnp.sqrt(jnp.average(jnp.mean(change**2, axis=(1, 2, 3)), weights=rows_B))
    return value, {"pull": pull, "fake_mse": measures["mse"]}


def network_calls(config: Any) -> int:
    """Of drawing an image."""
    return 1


def sample(
    config: Any, params: common.Params, noise: Array, key: Array, given: Conditions, steps: int
) -> Array:
    """What the generator makes, in one step whatever is asked."""
    del key, steps
    return generate(config, params, noise, given)
