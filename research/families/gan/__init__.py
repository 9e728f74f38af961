"""Generative adversarial networks (Goodfellow et al. 2014): images that a judge takes for data.

A step trains the discriminator, `discriminator_steps` times, and then the generator, each by its
own loss (`objective`) with the optimizer of the run and moments of its own. Penalties hold the
discriminator's slope where data are (R1: Mescheder et al. 2018), where images are drawn (R2) or in
between (Gulrajani et al. 2017); without one two players may turn about each other for ever. The
generator is the decoder of a coder, the discriminator its encoder, told the class by a projection
(Miyato & Koyama 2018). Where data are few, what is judged is augmented (`augmentation`). Levels are
rounded before they are judged, and gradients pass straight through, so that what is judged is what
is drawn.

There is no likelihood: the score is how far samples lie from data (`sample_distance`).
"""

import functools
import math
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
from research.failures import Limit
from research.families import sample_distance
from research.families.gan import augmentation, spectral
from research.models import common
from research.models.coders import CODERS
from research.models.common import Params
from research.parts import part

# An objective is a part with discriminator(real, fake) and generator(real, fake) -> the loss of
# each player by logits [B] of data and of drawn images.
OBJECTIVES = {
    "non_saturating": "research.families.gan.non_saturating",
    "wasserstein": "research.families.gan.wasserstein",
    "hinge": "research.families.gan.hinge",
    "relativistic": "research.families.gan.relativistic",
}
PARTS = {"network": CODERS, "objective": OBJECTIVES}
PENALTIES = ("r1_weight", "r2_weight", "between_weight")
PLAYERS = ("generator", "discriminator")
_SELF = sys.modules[__name__]


def default_model() -> ConfigDict:
    """Keys of `config.model` beside those of the networks."""
    return ConfigDict(
        dict(
            network="mlp_coder",
            objective="non_saturating",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # levels, not floats
            levels=256,  # of a discrete image
            num_classes=0,  # 0: no label is given to the networks
            latent_channels=16,  # numbers that a place of an image is made of
            discriminator_steps=1,  # for one of the generator
            r1_weight=1.0,  # of half the squared slope at data
            r2_weight=0.0,  # ... and at drawn images
            between_weight=0.0,  # of (slope - 1)^2 between both
            spectral_steps=0,  # of power iteration, by which kernels have norm 1; 0: as they are
            augment_target=0.0,  # of the mean sign of logits of data, such as 0.6; 0: no augmenting
            augment_images=500_000,  # in which its chance goes from 0 to 1 at most
        )
    )


def default_train() -> dict[str, Any]:
    """Hardly any momentum, which makes players turn (Gidel et al. 2019), and an average."""
    return dict(optimizer="adamw", weight_decay=0.0, b1=0.0, b2=0.99, ema_decay=0.99)


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for what the data's `spec` does not fit, or players that cannot be."""
    model = config.model
    levels.check(config, spec)
    if model.num_classes not in (0, spec["num_classes"]):
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be 0 or {spec['num_classes']}, "
            f"the classes of {config.data.name}"
        )
    for key, least in (("latent_channels", 1), ("discriminator_steps", 1), ("spectral_steps", 0)):
        if model[key] < least:
            raise UserError(f"config.model.{key}={model[key]} must be at least {least}")
    for key in PENALTIES:
        if not 0 <= model[key] < math.inf:
            raise UserError(f"config.model.{key}={model[key]} must be at least 0")
    if not 0 <= model.augment_target < 1:
        raise UserError(
            f"config.model.augment_target={model.augment_target} must be from 0, which augments "
            "nothing, to below 1"
        )
    if model.augment_images < 1:
        raise UserError(f"config.model.augment_images={model.augment_images} must be at least 1")
    if config.hardware.accumulation > 1:
        raise UserError(
            f"config.hardware.accumulation={config.hardware.accumulation} must be 1: each player's "
            "step is of one batch"
        )


def network(config: Any) -> ModuleType:
    """The module of both networks."""
    return part(_SELF, "network", config.model)


def positions(config: ConfigDict) -> int:
    """Positions that a network processes for one image."""
    return network(config).positions(config)


@functools.lru_cache
def _modules(of: ModuleType, model: Any, hardware: Any) -> dict[str, Any]:
    # The discriminator says a logit and, where there are classes, what to project on them.
    features = 1 + (model.latent_channels if model.num_classes else 0)
    encoder, _ = of.build(model, hardware, features, 1)
    _, decoder = of.build(model, hardware, 1, model.image_shape[-1])
    return {"generator": decoder, "discriminator": encoder}


def _networks(config: Any) -> dict[str, tuple[Any, tuple]]:
    """The two modules, and inputs of the right shape to start each."""
    model, hardware = FrozenConfigDict(config.model), FrozenConfigDict(config.hardware)
    modules = _modules(network(config), model, hardware)
    label = jnp.zeros(1, jnp.int32) if model.num_classes else None
    latent = jnp.zeros((1, *network(config).latent_sides(model), model.latent_channels))
    return {
        "generator": (modules["generator"], (latent, label)),
        "discriminator": (modules["discriminator"], (jnp.zeros((1, *model.image_shape)), None)),
    }


def init(config: ConfigDict, key: Array) -> Params:
    """Parameters of both players."""
    own, *keys = jax.random.split(key, 3)
    params: dict[str, Any] = {
        name: {"network": common.init(module, each, *inputs)}
        for each, (name, (module, inputs)) in zip(keys, _networks(config).items(), strict=True)
    }
    if config.model.num_classes:
        size = config.model.num_classes, config.model.latent_channels
        params["discriminator"]["projection"] = 0.02 * jax.random.normal(own, size)
    return params


def axes(config: ConfigDict) -> Params:
    """Logical axes of every parameter."""
    found: dict[str, Any] = {
        name: {"network": common.logical_axes(module, *inputs)}
        for name, (module, inputs) in _networks(config).items()
    }
    if config.model.num_classes:
        found["discriminator"]["projection"] = ("class", "latent")
    return found


def generated(config: Any, params: Any, key: Array, num: int, label: Any = None) -> Array:
    """Images as numbers of [-1, 1], or floats, [num, H, W, C], of the classes `label`."""
    model, (module, (latent, _)) = config.model, _networks(config)["generator"]
    z = jax.random.normal(key, (num, *latent.shape[1:]))
    with jax.named_scope("generator"):
        x = common.apply(module, params["generator"]["network"], z, label)
    if not model.discrete:
        return x
    x = jnp.tanh(x)
    rounded = levels.scaled(levels.nearest(x, model.levels), model.levels)
    return x + jax.lax.stop_gradient(rounded - x)


def logits(config: Any, params: Any, x: Array, label: Any = None) -> Array:
    """What the discriminator says of images, [B]: above 0 it takes them for data."""
    own, model = params["discriminator"], config.model
    kernels = own["network"]
    if model.spectral_steps:
        kernels = spectral.normalised(kernels, model.spectral_steps)
    with jax.named_scope("discriminator"):
        said = common.apply(_networks(config)["discriminator"][0], kernels, x, None).mean((1, 2))
    if label is None:
        return said[:, 0]
    return said[:, 0] + (said[:, 1:] * own["projection"][label]).sum(-1)


def slopes(config: Any, params: Any, x: Array, label: Any) -> Array:
    """The squared slope of each logit by its image, [B]."""
    slope = jax.grad(lambda x: logits(config, params, x, label).sum())(x)
    return jnp.square(slope).sum((1, 2, 3))


def _penalty(config: Any, params: Any, real: Array, fake: Array, label: Any, key: Array) -> Array:
    model, total = config.model, jnp.zeros(())
    for weight, x in ((model.r1_weight, real), (model.r2_weight, fake)):
        if weight:
            total += 0.5 * weight * slopes(config, params, x, label).mean()
    if model.between_weight:
        share = jax.random.uniform(key, (len(real), 1, 1, 1))
        between = slopes(config, params, share * real + (1 - share) * fake, label)
        # The root has a slope at zero, where a discriminator may begin.
        off = jnp.sqrt(between + 1e-12) - 1
        total += model.between_weight * jnp.square(off).mean()
    return total


def _shown(config: Any, batch: dict) -> tuple[Array, Any]:
    label = batch["label"] if config.model.num_classes else None
    return levels.scaled(batch["image"], config.model.levels), label


def _objective(config: Any) -> ModuleType:
    return part(_SELF, "objective", config.model)


def _augmented(x: Array, chance: Any, key: Array) -> Array:
    return x if chance is None else augmentation.augmented(x, chance, key)


def discriminator_loss(
    config: Any, params: Any, batch: dict, key: Array, step: Any, chance: Any = None
) -> tuple[Array, dict[str, Array]]:
    """The loss of the discriminator, with its penalties, the generator being as it is.

    Args:
        chance: with which data and drawn images are augmented before they are judged.
    """
    del step
    (real, label), keys = _shown(config, batch), jax.random.split(key, 4)
    fake = jax.lax.stop_gradient(generated(config, params, keys[0], len(real), label))
    real, fake = (_augmented(x, chance, k) for x, k in zip((real, fake), keys[2:], strict=True))
    said = [logits(config, params, x, label) for x in (real, fake)]
    penalty = _penalty(config, params, real, fake, label, keys[1])
    right = 0.5 * ((said[0] > 0).mean() + (said[1] < 0).mean())
    metrics = {"real": said[0].mean(), "fake": said[1].mean(), "right": right, "penalty": penalty}
    metrics["sign"] = jnp.sign(said[0]).mean()
    return _objective(config).discriminator(*said) + penalty, metrics


def loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Any, chance: Any = None
) -> tuple[Array, dict[str, Any]]:
    """The loss of the generator, the discriminator being as it is."""
    del step
    (real, label), keys = _shown(config, batch), jax.random.split(key, 3)
    fake = generated(config, params, keys[0], len(real), label)
    real, fake = (_augmented(x, chance, k) for x, k in zip((real, fake), keys[1:], strict=True))
    said = [logits(config, params, x, label) for x in (real, fake)]
    return _objective(config).generator(*said), {}


def only(player: str, before: Any, after: Any) -> Any:
    """The tree `after`, but what is another player's, parameters and moments, as it was `before`.

    What belongs to none of them, such as the number of steps, is that of the generator, whose step
    is the last.
    """

    def chosen(path: Any, old: Any, new: Any) -> Any:
        owners = [name for name in PLAYERS if name in jax.tree_util.keystr(path)]
        return new if (owners or ["generator"])[0] == player else old

    return jax.tree_util.tree_map_with_path(chosen, before, after)


def memory(config: ConfigDict, params: Any) -> dict[str, Array]:
    """The chance of augmenting, where it is moved along the run."""
    del params
    return {"chance": jnp.zeros(())} if config.model.augment_target else {}


def update(
    config: ConfigDict, state: dict, batch: dict, key: Array, step: Array, rate: Array
) -> tuple[dict, dict]:
    """The steps of the discriminator, and one of the generator against it as it is then."""

    model, held = config.model, state["memory"]
    chance = held.get("chance")

    def played(state: dict, player: str, of: Any, key: Array) -> tuple[dict, dict]:
        of = functools.partial(of, chance=chance)
        after, metrics = optim.update(of, config, state, batch, key, step, rate)
        return only(player, state, after), metrics

    first, *keys = jax.random.split(key, 1 + model.discriminator_steps)
    judged: dict[str, Array] = {}
    for each in keys:
        state, judged = played(state, "discriminator", discriminator_loss, each)
    state, metrics = played(state, "generator", loss, first)
    sign = judged.pop("sign")
    own = {"discriminator_loss": judged["loss"], "discriminator_norm": judged["grad_norm"]}
    if chance is not None:
        rows = len(batch["image"]) / model.augment_images
        own["chance"] = jnp.clip(chance + rows * jnp.sign(sign - model.augment_target), 0, 1)
        state = {**state, "memory": {"chance": own["chance"]}}
    return state, {**judged, **own, **metrics}


def score(config: ConfigDict, params: Any, batch: dict, key: Array) -> dict:
    """The distance of as many drawn images, of the same classes, from the rows not masked."""
    x, label = _shown(config, batch)
    drawn = generated(config, params, key, len(x), label)
    return {
        "sample_distance": sample_distance.statistic(x, batch.get("mask", jnp.ones(len(x))), drawn)
    }


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """What `score` measures."""
    del config
    return {"sample_distance": sample_distance.KIND}


def limits(config: ConfigDict) -> dict[str, Limit]:
    """A discriminator that is never wrong has nothing to say to its generator."""
    del config
    means = "the discriminator is never wrong"
    return {"discriminator_wins": Limit("right", means, high=0.999)}


@functools.partial(jax.jit, static_argnums=(0, 3))
def _draw(config: Any, params: Any, key: Array, num: int, label: Any) -> Array:
    model = config.model
    x = generated(config, params, key, num, label)
    return levels.nearest(x, model.levels) if model.discrete else x


def sample(config: ConfigDict, params: Any, key: Array, num: int, label: Any = None) -> np.ndarray:
    """Images [num, H, W, C], uint8 if the data are, of classes drawn evenly or those of `label`."""
    model = config.model
    if model.num_classes and label is None:
        label = jax.random.randint(jax.random.fold_in(key, 1), (num,), 0, model.num_classes)
    return np.asarray(_draw(frozen(config, "model", "hardware"), params, key, num, label))
