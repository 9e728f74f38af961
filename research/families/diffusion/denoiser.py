"""The network of a diffusion model, and what it says of a noisy image: its parts x_0 and eps."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import FrozenConfigDict

from research import levels
from research.families.diffusion import bound, image_conditions, schedule
from research.families.diffusion.objectives import OBJECTIVES
from research.families.diffusion.process import Process, along
from research.models import common
from research.models.conditions import Conditions
from research.parts import load

# A network is a part (`research.parts`) with positions(config) and build(model, hardware, channels)
# -> module of (x_BxHxWxI, conditions) -> (y_BxHxWx(channels) in float32, measures). READS names
# what else it can be given: "text", "control", an image that steers it, and "until", a second time.
NETWORKS = {
    "dit": "research.models.dit",
    "uvit": "research.models.uvit",
    "mmdit": "research.models.mmdit",
    "unet": "research.models.unet",
}


def part(config: Any) -> ModuleType:
    """The module that `config.model.network` names."""
    return load("model.network", config.model.network, NETWORKS)


def objective(name: str) -> ModuleType:
    """The objective `name`: one of OBJECTIVES, or the dotted path of a module."""
    return load("model.objective", name, OBJECTIVES, ("loss",))


def objective_keys(name: str) -> set[str]:
    """The keys of `config.model` that are of an objective."""
    return set(getattr(objective(name), "default_model", dict)())


def drawn(config: Any, params: common.Params) -> common.Params:
    """Of `params` the network that images are drawn with."""
    of = objective(config.model.objective)
    return of.drawn(params) if hasattr(of, "drawn") else params


def make_schedule(config: Any) -> schedule.Schedule:
    """The noise schedule that `config.model` names."""
    model = config.model
    return schedule.make(
        model.schedule,
        model.gamma_min,
        model.gamma_max,
        mean=model.gamma_mean,
        std=model.gamma_std,
        shift=model.shift,
        zero_terminal=model.zero_terminal,
    )


def make_process(config: Any) -> Process:
    """The process that `config.model` names, and what of it the network predicts."""
    model = config.model
    return Process(model.process, model.prediction, model.data_std, model.scale_input)


def network(config: Any, two_times: bool | None = None) -> tuple[Any, tuple[Array, Conditions]]:
    """The Flax module that `config.model` names, and inputs of the right shapes to start it.

    Args:
        two_times: whether it is given both ends of a step; None is as its objective has it.
    """
    model = FrozenConfigDict(config.model)
    *space, channels = model.image_shape
    image, inputs = None, channels * (1 + model.self_conditioning)
    if model.image_input == "control":
        image = jnp.zeros((1, *space, image_conditions.channels(model)))
    else:
        inputs += image_conditions.channels(model)
    inputs *= 1 + 2 * len(model.fourier_features)
    label = jnp.zeros(1, jnp.int32) if model.num_classes else None
    text = jnp.zeros((1, model.text_length), jnp.int32) if model.text_vocab else None
    if two_times is None:
        two_times = getattr(objective(model.objective), "TWO_TIMES", False)
    until = jnp.zeros(1) if two_times else None
    outputs = channels * (1 + model.learned_variance)
    module = part(config).build(model, FrozenConfigDict(config.hardware), outputs)
    given = Conditions(jnp.zeros(1), label, until, text, image)
    return module, (jnp.zeros((1, *space, inputs)), given)


def init(config: Any, key: Array) -> common.Params:
    """Parameters of one network as a nested dict; its output starts at zero."""
    module, inputs = network(config)
    return common.init(module, key, *inputs)


def axes(config: Any, two_times: bool | None = None) -> common.Params:
    """Logical axis names of every parameter of one network, a tree like `init`'s."""
    module, inputs = network(config, two_times)
    return common.logical_axes(module, *inputs)


def pixels(config: Any, image: Array) -> Array:
    """The data as the process sees it, float32: levels to [-1, 1], floats as they are."""
    return levels.scaled(image, config.model.levels)


def known(config: Any, batch: dict[str, Array], key: Array) -> Conditions:
    """What the network is given of a batch whatever the noise: `gamma_B` is yet to be set."""
    model, image = config.model, None
    if model.image_condition != "none":
        make = image_conditions.KINDS[model.image_condition].make
        image = make(model, pixels(config, batch["image"]), key)
    label = batch["label"] if model.num_classes else None
    text = batch["text"] if model.text_vocab else None
    nothing: Any = None
    return Conditions(nothing, label, text_BxS=text, image_BxHxWxC=image)


def apply(
    config: Any, params: common.Params, x_t: Array, given: Conditions, guess: Array | None = None
) -> tuple[Array, dict[str, Array]]:
    """The network's raw output, [B, H, W, channels or twice as many], and what it measures.

    Args:
        guess: of x_0, [B, H, W, C], which a network with `model.self_conditioning` is given beside
            x_t (Chen 2022, Analog Bits, section 3.2); None is zero.
    """
    module, _ = network(config)
    return common.apply(module, params, *seen(config, x_t, given, guess))


def seen(
    config: Any, x_t: Array, given: Conditions, guess: Array | None = None
) -> tuple[Array, Conditions]:
    """What the network's module is called with: all that it sees as one image, and what it is told.

    Args:
        guess: of x_0, as `apply` takes it.
    """
    parts = [make_process(config).network_input(x_t, given.gamma_B)]
    if config.model.self_conditioning:
        parts.append(jnp.zeros_like(x_t) if guess is None else guess)
    if given.image_BxHxWxC is not None and config.model.image_input == "concatenate":
        parts.append(given.image_BxHxWxC)
        given = given._replace(image_BxHxWxC=None)
    x = jnp.concatenate(parts, -1) if len(parts) > 1 else parts[0]
    return fourier_features(x, config.model.fourier_features), given


def fourier_features(x: Array, exponents: tuple[int, ...]) -> Array:
    """Append sin and cos of 2^n 2 pi x on the last axis: the fine levels (Kingma 2021, app. C)."""
    if not exponents:
        return x
    angles = [x * (2.0**exponent * 2 * np.pi) for exponent in exponents]
    return jnp.concatenate([x, *map(jnp.sin, angles), *map(jnp.cos, angles)], -1)


def predicted(config: Any, output: Array) -> tuple[Array, Array | None]:
    """The network's output as its prediction and, where it is learned, the place of its variance.

    The second, [B, H, W, C], is 1 at the largest variance of a step back and -1 at the smallest.
    """
    if not config.model.learned_variance:
        return output, None
    prediction, place = jnp.split(output, 2, -1)
    return prediction, place


def look(
    config: Any, params: common.Params, y: Array, given: Conditions, guess: Array | None = None
) -> tuple[Array, Array | None, dict[str, Array]]:
    """x_0 in y = x / alpha, the place of the variance of a step back, and what is measured."""
    process = make_process(config)
    x_t = y * along(process.scales(given.gamma_B)[0], y)
    output, measures = apply(config, params, x_t, given, guess)
    prediction, place = predicted(config, output)
    return process.to_x0(prediction, x_t, given.gamma_B), place, measures


def predict_x0(
    config: Any, params: common.Params, x_t: Array, given: Conditions, guess: Array | None = None
) -> Array:
    """E[x_0 | x_t] as the network has it, [B, H, W, C]."""
    output, _ = apply(config, params, x_t, given, guess)
    return make_process(config).to_x0(predicted(config, output)[0], x_t, given.gamma_B)


def predict_eps(config: Any, params: common.Params, known: Conditions) -> bound.Predict:
    """The noise that the network sees in x_t, as `bound` asks for it, given what is `known`.

    A network that is conditioned on its own guess makes it from the same x_t first.
    """
    process = make_process(config)

    def predict(x_t: Array, gamma: Array, rows: Array) -> Array:
        given = jax.tree.map(lambda each: each[rows], known)._replace(gamma_B=gamma)
        guess = None
        if config.model.self_conditioning:
            guess = predict_x0(config, params, x_t, given)
        output, _ = apply(config, params, x_t, given, guess)
        return process.to_eps(predicted(config, output)[0], x_t, gamma)

    return predict


def hide(config: Any, key: Array, given: Conditions) -> Conditions:
    """`given` with a share of labels and a share of texts hidden: "no class", and no text.

    It is what classifier-free guidance pushes away from (Ho 2022).
    """
    label_B, text_BxS = given.label_B, given.text_BxS
    if label_B is not None and config.model.class_dropout:
        hidden_B = jax.random.bernoulli(key, config.model.class_dropout, label_B.shape)
        label_B = jnp.where(hidden_B, config.model.num_classes, label_B)
    if text_BxS is not None and config.model.text_dropout:
        text_key = jax.random.fold_in(key, 1)
        hidden_B = jax.random.bernoulli(text_key, config.model.text_dropout, text_BxS.shape[:1])
        text_BxS = jnp.where(hidden_B[:, None], 0, text_BxS)
    return given._replace(label_B=label_B, text_BxS=text_BxS)
