"""A family without a transformer: a small residual convolutional denoiser of images.

It is that of Karras et al. (2022, eq. 2 and 3 with the preconditioning of table 1): D(x; sigma)
gives back a clean image from one with noise of standard deviation sigma, and the flow
dx / dsigma = (x - D(x; sigma)) / sigma makes images from noise. It has channels, not a width, and
neither heads nor layers of one shape; parameters are a dict with a list in it.
"""

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError

SIGMA = (0.05, 5.0)  # the noise, drawn evenly in its logarithm
DATA = 0.5  # standard deviation of pixels in [-1, 1], about
SAMPLING_STEPS = 16


def default_model():
    return ConfigDict({"sides": placeholder(tuple), "channels": 8, "blocks": 2})


def check(config, spec):
    if tuple(spec.get("shape", ())) != tuple(config.model.sides):
        raise UserError(
            f"config.model.sides={config.model.sides} are not those of the images of "
            f"{config.data.name}, {spec.get('shape', 'which has none')}"
        )


def positions(config):
    return config.model.sides[0] * config.model.sides[1]


def init(config, key):
    model = config.model
    keys = iter(jax.random.split(key, 2 * model.blocks + 1))

    def conv(inputs, outputs):
        scale = (9 * inputs) ** -0.5
        kernel = scale * jax.random.normal(next(keys), (3, 3, inputs, outputs))
        return {"kernel": kernel, "bias": jnp.zeros(outputs)}

    def last(outputs):  # a branch begins at nothing
        return {"kernel": jnp.zeros((3, 3, model.channels, outputs)), "bias": jnp.zeros(outputs)}

    def block():
        made = {"first": conv(model.channels, model.channels), "second": last(model.channels)}
        return made | {"noise": jax.random.normal(next(keys), (1, model.channels))}

    colours = model.sides[2]
    stem, head = conv(colours, model.channels), last(colours)
    return {"stem": stem, "blocks": [block() for _ in range(model.blocks)], "head": head}


def axes(config):
    """Channels that go in are split by fsdp, channels that come out by tensor."""
    kernel = (None, None, "embed", "mlp")
    inner = {"kernel": kernel, "bias": ("norm",)}
    block = {"first": inner, "second": inner, "noise": (None, "norm")}
    return {
        "stem": {"kernel": (None, None, None, "mlp"), "bias": ("norm",)},
        "blocks": [block] * config.model.blocks,
        "head": {"kernel": (None, None, "embed", None), "bias": ("norm",)},
    }


def _conv(params, x):
    found = jax.lax.conv_general_dilated(
        x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return found + params["bias"]


def denoise(params, x, sigma):
    """The clean images of x [batch, height, width, colours] with noise sigma [batch]."""
    sigma = sigma[:, None, None, None]
    total = jnp.sqrt(sigma**2 + DATA**2)
    with jax.named_scope("stem"):
        h = _conv(params["stem"], x / total)
    for index, block in enumerate(params["blocks"]):
        with jax.named_scope(f"block{index}"):
            a = jax.nn.silu(_conv(block["first"], h) + jnp.log(sigma) / 4 * block["noise"])
            h = h + _conv(block["second"], a)
    with jax.named_scope("head"):
        found = _conv(params["head"], jax.nn.silu(h))
    return x * (DATA / total) ** 2 + found * sigma * DATA / total


def _clean(image):
    """Pixels in [-1, 1] of bytes, or floats as they are."""
    return image / 127.5 - 1 if image.dtype == jnp.uint8 else image


def _errors(params, batch, key):
    """Squared error a dimension of each example, [batch], over what cannot be known of it."""
    x, keys = _clean(batch["image"]), jax.random.split(key)
    low, high = np.log(SIGMA)
    sigma = jnp.exp(jax.random.uniform(keys[0], x.shape[:1], minval=low, maxval=high))
    noisy = x + sigma[:, None, None, None] * jax.random.normal(keys[1], x.shape)
    weight = (sigma**2 + DATA**2) / (sigma * DATA) ** 2
    return weight * jnp.square(denoise(params, noisy, sigma) - x).mean((1, 2, 3))


def loss(config, params, batch, key, step):
    return _errors(params, batch, key).mean(), {}


def score(config, params, batch, key):
    total = (_errors(params, batch, key) * batch["mask"]).sum()
    return {"error": {"total": total, "count": batch["mask"].sum()}}


def score_kinds(config):
    return {"error": {"unit": "squared error", "kind": "estimate", "better": "lower"}}


def sample(config, params, key, num):
    """Images [num, height, width, colours] by Euler's steps along the flow."""
    sigmas = np.append(np.geomspace(SIGMA[1], SIGMA[0], SAMPLING_STEPS), 0.0)

    def step(x, pair):
        slope = (x - denoise(params, x, jnp.full(num, pair[0]))) / pair[0]
        return x + (pair[1] - pair[0]) * slope, None

    x = sigmas[0] * jax.random.normal(key, (num, *config.model.sides))
    pairs = jnp.asarray(np.stack([sigmas[:-1], sigmas[1:]], 1), jnp.float32)
    return np.asarray(jax.jit(lambda x: jax.lax.scan(step, x, pairs)[0])(x))
