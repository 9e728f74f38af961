"""Autoencoders: images to a small latent and back, learned by the code length of both together.

    -log p(x) <= E[-log p(x | latent)] + what the latent costs

is a true bound on levels, whose likelihood given the latent sums to one (`pixel_likelihood`). The
latent costs its divergence from a normal prior ("kl"), or log2 of the number of codes a place
("vq", "fsq"), whose prior is uniform. What a model of latents reads, `encode`, has mean 0 a channel
and deviation 1: by running statistics that no gradient moves, which lie with the parameters. One
deviation serves all channels (Rombach et al. 2022, appendix G), lest a channel that holds nothing
become as loud as the others.
"""

import functools
import sys
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research import levels, optim
from research.config import frozen
from research.errors import UserError
from research.families.autoencoder import pixel_likelihood
from research.families.autoencoder.coded import Coded, perplexity
from research.models import common
from research.models.coders import CODERS
from research.parts import part

# A bottleneck is a part with
#   features(model), channels(model), symbols(model): how many numbers the encoder says of a place
#       and a latent has there, and how many codes there are, 0 where there are none
#   read(model, params, h_BxHxWxI, key) -> the latent of what the encoder says, or a sample of it
#   snapped(model, params, latent_BxHxWxC) -> what the decoder reads of a latent
#   code(model, params, h_BxHxWxI, key) -> Coded
# and drawn(model, params, key, places), samples of its prior, or, where it has codes, codes(model,
# params, latent) and looked_up(model, params, code_BxHxW). Parameters of its own come by
# init(model, key), axes() and moved(model, before, now, found, key), which has those after a step.
BOTTLENECKS = {
    "kl": "research.families.autoencoder.gaussian_bottleneck",
    "vq": "research.families.autoencoder.vector_bottleneck",
    "fsq": "research.families.autoencoder.scalar_bottleneck",
}
PARTS = {"network": CODERS, "bottleneck": BOTTLENECKS}


def default_model() -> ConfigDict:
    """Keys of `config.model` beside those of the network and the bottleneck."""
    return ConfigDict(
        dict(
            network="conv_autoencoder",
            bottleneck="kl",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # whole numbers, not floats
            levels=256,  # of them
            statistics_decay=0.99,  # a step, of the latent's mean and deviation
        )
    )


def default_train() -> dict[str, Any]:
    """No decay of weights, on which the latent's size and with it every cost depends."""
    return dict(weight_decay=0.0)


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for what the data's `spec` does not fit."""
    model = config.model
    levels.check(config, spec)
    if not 0 <= model.statistics_decay < 1:
        raise UserError(
            f"config.model.statistics_decay={model.statistics_decay} must be at least 0 and below 1"
        )


def network(config: ConfigDict) -> ModuleType:
    """The module of the two networks that `config.model` names."""
    return part(sys.modules[__name__], "network", config.model)


def bottleneck(config: ConfigDict) -> ModuleType:
    """The module of the bottleneck that `config.model` names."""
    return part(sys.modules[__name__], "bottleneck", config.model)


def latent_shape(config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the latent of an image."""
    return (*network(config).latent_sides(config.model), bottleneck(config).channels(config.model))


def symbols(config: ConfigDict) -> int:
    """How many codes a place may have; 0 where it has none."""
    return bottleneck(config).symbols(config.model)


def positions(config: ConfigDict) -> int:
    """Positions that the networks process for one image."""
    return network(config).positions(config)


@functools.lru_cache
def _modules(of: ModuleType, through: ModuleType, model: Any, hardware: Any) -> dict[str, Any]:
    outputs = 2 * model.image_shape[-1]  # a location and a scale of each dimension
    built = of.build(model, hardware, through.features(model), outputs)
    return dict(zip(("encoder", "decoder"), built, strict=True))


def _networks(config: ConfigDict) -> dict[str, tuple[Any, Array]]:
    """The two modules, and an input of the right shape to start each."""
    model, hardware = FrozenConfigDict(config.model), FrozenConfigDict(config.hardware)
    modules = _modules(network(config), bottleneck(config), model, hardware)
    shapes = {"encoder": config.model.image_shape, "decoder": latent_shape(config)}
    return {name: (modules[name], jnp.zeros((1, *shapes[name]))) for name in modules}


def _run(config: ConfigDict, params: Any, name: str, x: Array) -> Array:
    with jax.named_scope(name):
        return common.apply(_networks(config)[name][0], params[name], x)


def init(config: ConfigDict, key: Array) -> common.Params:
    """Parameters of the encoder, the decoder and the bottleneck, and statistics of the latent."""
    own_key, *keys = jax.random.split(key, 3)
    params: dict[str, Any] = {
        name: common.init(module, each, x)
        for each, (name, (module, x)) in zip(keys, _networks(config).items(), strict=True)
    }
    zeros = jnp.zeros(latent_shape(config)[-1:])
    params["statistics"] = {"mean": zeros, "square": zeros + 1}  # a channel
    if hasattr(bottleneck(config), "init"):
        params["bottleneck"] = bottleneck(config).init(config.model, own_key)
    return params


def axes(config: ConfigDict) -> common.Params:
    """Logical axes of every parameter."""
    found = {name: common.logical_axes(m, x) for name, (m, x) in _networks(config).items()}
    found["statistics"] = {"mean": ("norm",), "square": ("norm",)}
    if hasattr(bottleneck(config), "axes"):
        found["bottleneck"] = bottleneck(config).axes()
    return found


def _coded(config: ConfigDict, params: Any, image: Array, key: Array) -> Coded:
    h_BxHxWxI = _run(config, params, "encoder", levels.scaled(image, config.model.levels))
    with jax.named_scope("bottleneck"):
        return bottleneck(config).code(config.model, params.get("bottleneck"), h_BxHxWxI, key)


def _decoded(config: ConfigDict, params: Any, read_BxHxWxC: Array) -> tuple[Array, Array]:
    """Location and log scale of each dimension, each [B, H, W, C]."""
    y = _run(config, params, "decoder", read_BxHxWxC)
    location, log_scale = jnp.split(y, 2, axis=-1)
    return location, log_scale


def _judged(
    config: ConfigDict, params: Any, image: Array, key: Array
) -> tuple[Coded, dict[str, Array]]:
    """What the bottleneck makes of a batch, and of each image [B]:

    "reconstruction", -log p(x | latent) in nats, and "error", the mean square of what the decoder's
    location is off, which of levels is within their range, [-1, 1].
    """
    coded = _coded(config, params, image, key)
    location, log_scale = _decoded(config, params, coded.read_BxHxWxC)
    nats = pixel_likelihood.nats(image, location, log_scale, config.model.levels)
    if config.model.discrete:
        location = jnp.clip(location, -1, 1)
    error = jnp.square(levels.scaled(image, config.model.levels) - location)
    return coded, {"reconstruction": nats.sum((1, 2, 3)), "error": error.mean((1, 2, 3))}


def _loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, dict[str, Any]]:
    """`loss`, with what `moved` is told among its metrics."""
    del step
    coded, judged = _judged(config, params, batch["image"], key)
    a_dim = np.log(2) * batch["image"][0].size
    value = (judged["reconstruction"] + coded.cost_B).mean() / a_dim
    latent, found = jax.lax.stop_gradient(coded.latent_BxHxWxC), coded.found
    statistics = {"mean": latent.mean((0, 1, 2)), "square": jnp.square(latent).mean((0, 1, 2))}
    metrics = {
        "bound": (judged["reconstruction"] + coded.nats_B).mean() / a_dim,
        "rate": coded.nats_B.mean() / a_dim,
        "error": judged["error"].mean(),
    }
    if "share" in found:
        metrics["perplexity"] = perplexity(found["share"])
    return value, metrics | {"found": {"statistics": statistics, "bottleneck": found}}


def loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, dict[str, Any]]:
    """Bits a dimension of the reconstruction and of what the bottleneck charges in training.

    The metric "bound" is the variational bound in either case, "rate" the part of the latent.
    """
    value, metrics = _loss(config, params, batch, key, step)
    del metrics["found"]
    return value, metrics


def update(
    config: ConfigDict, state: dict, batch: dict, key: Array, step: Array, rate: Array
) -> tuple[dict, dict]:
    """One gradient step; then statistics and codes go where the batch moves them."""
    before, model = state["params"], config.model
    state, metrics = optim.update(_loss, config, state, batch, key, step, rate)
    found, now = metrics.pop("found"), dict(state["params"])
    # The first batch counts whole, the next by half: a mean, until there is more than is kept.
    weight = jnp.maximum(1 - model.statistics_decay, 1 / (step + 1))
    now["statistics"] = jax.tree.map(
        lambda old, new: old + weight * (new - old), before["statistics"], found["statistics"]
    )
    if hasattr(bottleneck(config), "moved"):
        given = (before["bottleneck"], now["bottleneck"], found["bottleneck"])
        now["bottleneck"] = bottleneck(config).moved(model, *given, jax.random.fold_in(key, 1))
    return {**state, "params": now}, metrics


def score(config: ConfigDict, params: Any, batch: dict, key: Array) -> dict:
    """The bound of the rows not masked, its part of the latent, and the squared error.

    One sample of each image's latent is seen. Deterministic given `key`.
    """
    coded, judged = _judged(config, params, batch["image"], key)
    rows_B = batch.get("mask", jnp.ones(len(batch["image"])))
    dims = rows_B.sum() * batch["image"][0].size
    bits = {
        "bound": judged["reconstruction"] + coded.nats_B,
        "rate": coded.nats_B,
    }
    found = {
        name: {"total": (rows_B * nats_B).sum() / np.log(2), "count": dims}
        for name, nats_B in bits.items()
    }
    return found | {"error": {"total": (rows_B * judged["error"]).sum(), "count": rows_B.sum()}}


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """What `score` measures: of floats the bound is of a density."""
    del config
    bits = {"unit": "bits/dim", "kind": "upper bound", "better": "lower"}
    error = {"unit": "squared error", "kind": "exact", "better": "lower"}
    return {"bound": bits, "rate": bits | {"kind": "estimate"}, "error": error}


def _deviation(statistics: dict[str, Array]) -> Array:
    variance = (statistics["square"] - jnp.square(statistics["mean"])).mean()
    return jnp.sqrt(jnp.maximum(variance, 1e-12))


def encode(config: ConfigDict, params: Any, image: Array, key: Array | None = None) -> Array:
    """The latent of images, float32 [B, h, w, C], of mean 0 a channel and deviation 1.

    It is the posterior's mean, or with `key` a sample of it; where there are codes, what is snapped
    to them.
    """
    h_BxHxWxI = _run(config, params, "encoder", levels.scaled(image, config.model.levels))
    with jax.named_scope("bottleneck"):
        of = params.get("bottleneck")
        latent = bottleneck(config).read(config.model, of, h_BxHxWxI, key)
    return (latent - params["statistics"]["mean"]) / _deviation(params["statistics"])


def decode(config: ConfigDict, params: Any, latent_BxHxWxC: Array) -> Array:
    """The most likely image of a latent as `encode` gives it, [B, H, W, C], uint8 or float32."""
    statistics = params["statistics"]
    latent = latent_BxHxWxC * _deviation(statistics) + statistics["mean"]
    with jax.named_scope("bottleneck"):
        read = bottleneck(config).snapped(config.model, params.get("bottleneck"), latent)
    return _shown(config, params, read)


def codes(config: ConfigDict, params: Any, image: Array) -> Array:
    """The number of each place's code, int32 [B, h, w], of a bottleneck that has codes."""
    h_BxHxWxI = _run(config, params, "encoder", levels.scaled(image, config.model.levels))
    of, model, own = bottleneck(config), config.model, params.get("bottleneck")
    with jax.named_scope("bottleneck"):
        return of.codes(model, own, of.read(model, own, h_BxHxWxI, None))


def decode_codes(config: ConfigDict, params: Any, code_BxHxW: Array) -> Array:
    """The most likely image of each array of codes, as `decode` gives it."""
    read = bottleneck(config).looked_up(config.model, params.get("bottleneck"), code_BxHxW)
    return _shown(config, params, read)


def _shown(config: ConfigDict, params: Any, read_BxHxWxC: Array) -> Array:
    location, _ = _decoded(config, params, read_BxHxWxC)
    return levels.nearest(location, config.model.levels) if config.model.discrete else location


def latent_nats(config: ConfigDict, params: Any, image: Array, key: Array) -> tuple[Array, Array]:
    """A sample of each latent as `encode` gives it, and E[log q(latent | x) - log p(x | latent)].

    With -log p(latent) of any model of such latents, or a bound of it, that is a bound of
    -log p(x), in nats of an image [B]. Where there are codes their numbers take its place.
    """
    coded, judged = _judged(config, params, image, key)
    if coded.code_BxHxW is not None:
        return coded.code_BxHxW, judged["reconstruction"]
    scale, mean = _deviation(params["statistics"]), params["statistics"]["mean"]
    density_B = coded.density_B + coded.latent_BxHxWxC[0].size * jnp.log(scale)
    return (coded.latent_BxHxWxC - mean) / scale, judged["reconstruction"] + density_B


@functools.partial(jax.jit, static_argnums=(0, 3))
def _draw(config: Any, params: Any, key: Array, num: int) -> Array:
    of, model, (height, across, _) = bottleneck(config), config.model, latent_shape(config)
    if not symbols(config):
        return _shown(config, params, of.drawn(model, params, key, (num, height, across)))
    code_BxHxW = jax.random.randint(key, (num, height, across), 0, symbols(config))
    return decode_codes(config, params, code_BxHxW)


def sample(config: ConfigDict, params: Any, key: Array, num: int) -> np.ndarray:
    """Images of latents from the prior, [num, H, W, C], uint8 if the data are, else float32."""
    used = frozen(config, "model", "hardware")
    return np.asarray(_draw(used, params, key, num))
