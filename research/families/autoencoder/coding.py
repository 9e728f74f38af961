"""What an encoder, a bottleneck, a decoder and a likelihood make of images, one after another."""

import functools
import sys
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research import levels
from research.families.autoencoder.coded import Coded
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
# init(model, key), axes(model) and moved(model, before, now, found, key), which has those after a
# step.
BOTTLENECKS = {
    "kl": "research.families.autoencoder.gaussian_bottleneck",
    "ladder": "research.families.autoencoder.ladder_bottleneck",
    "vq": "research.families.autoencoder.vector_bottleneck",
    "fsq": "research.families.autoencoder.scalar_bottleneck",
}
# A likelihood is a part with
#   outputs(model): how many numbers the decoder says of a dimension
#   cost(model, params, image, said_BxHxWxO) -> -log p of each dimension, nats [B, H, W, C]
#   location(model, said) -> the most likely image in the range of networks, [B, H, W, C]
#   drawn(model, params, said, key) -> a sample there
# and, where it has parameters of its own, init(model, key) and axes(model).
LIKELIHOODS = {
    "pixel": "research.families.autoencoder.pixel_likelihood",
    "gaussian": "research.families.autoencoder.gaussian_likelihood",
    "bernoulli": "research.families.autoencoder.bernoulli_likelihood",
}
# An objective is a part with value(config, params, batch, key, step) -> (nats of an image, mean
# over the batch; Coded; what `judged` gives).
OBJECTIVES = {
    "bound": "research.families.autoencoder.bound_objective",
    "importance": "research.families.autoencoder.importance_objective",
    "total_correlation": "research.families.autoencoder.correlation_objective",
}
PARTS = {
    "network": CODERS,
    "bottleneck": BOTTLENECKS,
    "likelihood": LIKELIHOODS,
    "objective": OBJECTIVES,
}
OWN = ("bottleneck", "likelihood")  # parts that may have parameters of their own


def _named(config: ConfigDict, key: str) -> ModuleType:
    return part(sys.modules[__name__], key, config.model)


def network(config: ConfigDict) -> ModuleType:
    """The module of the two networks that `config.model` names."""
    return _named(config, "network")


def bottleneck(config: ConfigDict) -> ModuleType:
    """The module of the bottleneck that `config.model` names."""
    return _named(config, "bottleneck")


def likelihood(config: ConfigDict) -> ModuleType:
    """The module of the likelihood that `config.model` names."""
    return _named(config, "likelihood")


def objective(config: ConfigDict) -> ModuleType:
    """The module of the objective that `config.model` names."""
    return _named(config, "objective")


def latent_shape(config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the latent of an image."""
    return (*network(config).latent_sides(config.model), bottleneck(config).channels(config.model))


def symbols(config: ConfigDict) -> int:
    """How many codes a place may have; 0 where it has none."""
    return bottleneck(config).symbols(config.model)


@functools.lru_cache
def _modules(
    of: ModuleType, features: int, outputs: int, model: Any, hardware: Any
) -> dict[str, Any]:
    built = of.build(model, hardware, features, outputs)
    return dict(zip(("encoder", "decoder"), built, strict=True))


def _networks(config: ConfigDict) -> dict[str, tuple[Any, ...]]:
    """The two modules, and inputs of the right shapes to start each."""
    model, hardware = FrozenConfigDict(config.model), FrozenConfigDict(config.hardware)
    outputs = likelihood(config).outputs(model) * model.image_shape[-1]
    features = bottleneck(config).features(model)
    modules = _modules(network(config), features, outputs, model, hardware)
    shapes = {"encoder": config.model.image_shape, "decoder": latent_shape(config)}
    label = (jnp.zeros(1, jnp.int32),) if config.model.num_classes else ()
    return {name: (modules[name], jnp.zeros((1, *shapes[name])), *label) for name in modules}


def _run(config: ConfigDict, params: Any, name: str, x: Array, label_B: Array | None) -> Array:
    told = () if label_B is None else (label_B,)
    with jax.named_scope(name):
        return common.apply(_networks(config)[name][0], params[name], x, *told)


def init(config: ConfigDict, key: Array) -> common.Params:
    """Parameters of the encoder, the decoder and the parts, and statistics of the latent."""
    own_key, *keys = jax.random.split(key, 3)
    params: dict[str, Any] = {
        name: common.init(module, each, *inputs)
        for each, (name, (module, *inputs)) in zip(keys, _networks(config).items(), strict=True)
    }
    zeros = jnp.zeros(latent_shape(config)[-1:])
    params["statistics"] = {"mean": zeros, "square": zeros + 1}  # a channel
    for name in OWN:
        if hasattr(of := _named(config, name), "init") and (own := of.init(config.model, own_key)):
            params[name] = own
    return params


def axes(config: ConfigDict) -> common.Params:
    """Logical axes of every parameter."""
    found = {name: common.logical_axes(m, *x) for name, (m, *x) in _networks(config).items()}
    found["statistics"] = {"mean": ("norm",), "square": ("norm",)}
    for name in OWN:
        if hasattr(of := _named(config, name), "axes") and (own := of.axes(config.model)):
            found[name] = own
    return found


def told(config: ConfigDict, batch: dict) -> Array | None:
    """The classes that the networks are given, [B]; None where they are given none."""
    return batch["label"] if config.model.num_classes else None


def encoded(config: ConfigDict, params: Any, image: Array, label_B: Array | None = None) -> Array:
    """What the encoder says of images, [B, h, w, I]."""
    return _run(config, params, "encoder", levels.scaled(image, config.model.levels), label_B)


def coded(config: ConfigDict, params: Any, h_BxHxWxI: Array, key: Array) -> Coded:
    """What the bottleneck makes of what the encoder says."""
    with jax.named_scope("bottleneck"):
        return bottleneck(config).code(config.model, params.get("bottleneck"), h_BxHxWxI, key)


def decoded(config: ConfigDict, params: Any, read: Array, label_B: Array | None = None) -> Array:
    """What the decoder says of each dimension, [B, H, W, outputs]."""
    return _run(config, params, "decoder", read, label_B)


def judged(
    config: ConfigDict, params: Any, batch: dict, h_BxHxWxI: Array, key: Array
) -> tuple[Coded, dict[str, Array]]:
    """What the bottleneck makes of a batch, and of each image [B]:

    "reconstruction", -log p(x | latent) in nats, and "error", the mean square of what the decoder's
    location is off, which of levels is within their range, [-1, 1].
    """
    model, of, image = config.model, likelihood(config), batch["image"]
    found = coded(config, params, h_BxHxWxI, key)
    said = decoded(config, params, found.read_BxHxWxC, told(config, batch))
    nats = of.cost(model, params.get("likelihood"), image, said)
    location = of.location(model, said)
    if model.discrete:
        location = jnp.clip(location, -1, 1)
    error = jnp.square(levels.scaled(image, model.levels) - location)
    return found, {"reconstruction": nats.sum((1, 2, 3)), "error": error.mean((1, 2, 3))}


def once(
    config: ConfigDict, params: Any, batch: dict, key: Array
) -> tuple[Coded, dict[str, Array]]:
    """`judged` of one sample of the latent of each image of a batch."""
    h_BxHxWxI = encoded(config, params, batch["image"], told(config, batch))
    return judged(config, params, batch, h_BxHxWxI, key)


def weighed(
    config: ConfigDict, params: Any, batch: dict, key: Array, samples: int
) -> tuple[Array, Coded, dict[str, Array]]:
    """log p(x, z) - log q(z | x) of samples z of the posterior, [K, B], and `judged` of the first.

    The encoder runs once, bottleneck and decoder once a sample.
    """
    h_BxHxWxI = encoded(config, params, batch["image"], told(config, batch))

    def weigh(key: Array) -> tuple[Array, Coded, dict[str, Array]]:
        found, seen = judged(config, params, batch, h_BxHxWxI, key)
        return -seen["reconstruction"] - found.ratio_B, found, seen

    weights_KxB, *rest = jax.lax.map(weigh, jax.random.split(key, samples))
    return weights_KxB, *jax.tree.map(lambda x: x[0], rest)


def averaged(log_weights_KxB: Array) -> Array:
    """log of the mean of the weights, [B] (Burda et al. 2016, equation 8)."""
    return jax.nn.logsumexp(log_weights_KxB, 0) - np.log(len(log_weights_KxB))
