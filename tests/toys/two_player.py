"""A family of two players: a convolutional GAN with its own update and an optimizer each.

The generator wins by the non-saturating loss (Goodfellow et al. 2014, section 3), the discriminator
pays R1, the squared gradient at real images (Mescheder et al. 2018, eq. 9), as convergence asks.
"""

import jax
import numpy as np
import optax
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError

NUMBERS = ("NHWC", "HWIO", "NHWC")


def default_model():
    return ConfigDict({"sides": placeholder(tuple), "channels": 8, "latent": 16, "penalty": 1.0})


def check(config, spec):
    sides = tuple(config.model.sides)
    if tuple(spec.get("shape", ())) != sides or sides[0] % 4 or sides[1] % 4:
        raise UserError(
            f"config.model.sides={sides} must be multiples of 4 and those of the images of "
            f"{config.data.name}, {spec.get('shape', 'which has none')}"
        )


def positions(config):
    return config.model.sides[0] * config.model.sides[1]


def init(config, key):
    model, keys = config.model, iter(jax.random.split(key, 6))
    height, width, colours = model.sides
    area, channels = height * width // 16, model.channels

    def kernel(*shape):
        scale = np.prod(shape[:-1]) ** -0.5
        return {
            "kernel": scale * jax.random.normal(next(keys), shape),
            "bias": jnp.zeros(shape[-1]),
        }

    generator = {
        "seed": kernel(model.latent, 2 * channels * area),
        "up": [kernel(4, 4, 2 * channels, channels), kernel(4, 4, channels, colours)],
    }
    discriminator = {
        "down": [kernel(4, 4, colours, channels), kernel(4, 4, channels, 2 * channels)],
        "verdict": kernel(2 * channels * area, 1),
    }
    return {"generator": generator, "discriminator": discriminator}


def axes(config):
    def leaf(*names):
        return {"kernel": names, "bias": ("norm",)}

    conv = leaf(None, None, "embed", None)
    return {
        "generator": {"seed": leaf("embed", None), "up": [conv, conv]},
        "discriminator": {
            "down": [leaf(None, None, None, "embed"), conv],
            "verdict": leaf("embed", None),
        },
    }


def generate(config, params, z):
    """Images [batch, height, width, colours] in [-1, 1] of z [batch, latent]."""
    height, width, _ = config.model.sides
    with jax.named_scope("generator"):
        x = z @ params["seed"]["kernel"] + params["seed"]["bias"]
        x = x.reshape(len(z), height // 4, width // 4, -1)
        for layer in params["up"]:
            x = jax.lax.conv_transpose(
                jax.nn.silu(x), layer["kernel"], (2, 2), "SAME", dimension_numbers=NUMBERS
            )
            x = x + layer["bias"]
        return jnp.tanh(x)


def discriminate(params, x):
    """Logits [batch] that x [batch, height, width, colours] are real."""
    with jax.named_scope("discriminator"):
        for layer in params["down"]:
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (2, 2), "SAME", dimension_numbers=NUMBERS
            )
            x = jax.nn.silu(x + layer["bias"])
        x = x.reshape(len(x), -1)
        return (x @ params["verdict"]["kernel"] + params["verdict"]["bias"])[:, 0]


def _real(batch):
    image = batch["image"]
    return image / 127.5 - 1 if image.dtype == jnp.uint8 else image


def _fake(config, generator, key, num):
    return generate(config, generator, jax.random.normal(key, (num, config.model.latent)))


def loss(config, params, batch, key, step):
    """The generator's: how surely the discriminator tells what it makes."""
    fake = _fake(config, params["generator"], key, len(batch["image"]))
    return jax.nn.softplus(-discriminate(params["discriminator"], fake)).mean(), {}


def _discriminator_loss(config, discriminator, generator, batch, key):
    real = _real(batch)
    fake = _fake(config, generator, key, len(real))
    logits, back = jax.vjp(lambda x: discriminate(discriminator, x), real)
    (slope,) = back(jnp.ones_like(logits))
    told = (
        jax.nn.softplus(-logits).mean() + jax.nn.softplus(discriminate(discriminator, fake)).mean()
    )
    return told + config.model.penalty / 2 * jnp.square(slope).sum((1, 2, 3)).mean()


def _transform(config):
    return optax.scale_by_adam(0.0, 0.99, config.train.eps)


def init_optimizer(config, params):
    return {player: _transform(config).init(params[player]) for player in params}


def update(config, state, batch, key, step, learning_rate):
    """The discriminator moves, then the generator against what it has become."""
    keys = dict(zip(("discriminator", "generator"), jax.random.split(key), strict=True))
    players, opt_state, metrics = dict(state["params"]), dict(state["opt_state"]), {}

    def told(mine):
        return _discriminator_loss(config, mine, players["generator"], batch, keys["discriminator"])

    def unnoticed(mine):
        return loss(config, players | {"generator": mine}, batch, keys["generator"], step)[0]

    for player, objective in (("discriminator", told), ("generator", unnoticed)):
        value, gradient = jax.value_and_grad(objective)(players[player])
        moves, opt_state[player] = _transform(config).update(gradient, opt_state[player])
        players[player] = jax.tree.map(lambda p, u: p - learning_rate * u, players[player], moves)
        metrics[f"{player}_loss"] = value
    metrics["loss"] = metrics["generator_loss"]
    return {**state, "params": players, "opt_state": opt_state}, metrics


def score(config, params, batch, key):
    """Distance of the mean image that is made from the mean of the batch, root mean square."""
    real, mask = _real(batch), batch["mask"]
    mean = (real * mask[:, None, None, None]).sum(0) / mask.sum()
    made = _fake(config, params["generator"], key, len(real)).mean(0)
    total = mask.sum() * jnp.sqrt(jnp.square(made - mean).mean())
    return {"distance": {"total": total, "count": mask.sum()}}


def score_kinds(config):
    return {"distance": {"unit": "distance", "kind": "estimate", "better": "lower"}}


def sample(config, params, key, num):
    return np.asarray(jax.jit(lambda p: _fake(config, p, key, num))(params["generator"]))
