"""Diffusion: a network that undoes Gaussian noise, scored by its variational bound.

The family protocol over one language, gamma = -log SNR: `schedule` (the path), `process` (the
forward process and what is predicted), `bound` (Kingma 2021) and `samplers`. The network is a part.
"""

import functools
import sys
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research.errors import UserError
from research.families.diffusion import bound, process, samplers, schedule
from research.models import common
from research.parts import check_choice, part

__all__ = [
    "NETWORKS",
    "PARTS",
    "axes",
    "check",
    "default_evaluation",
    "default_model",
    "default_sampling",
    "default_train",
    "init",
    "loss",
    "positions",
    "sample",
    "score",
    "score_kinds",
]

# A network is a part (`research.parts`) with positions(config) and build(model, hardware) -> module
# of (xt_BxHxWxC, gamma_B, label_B or None) -> (prediction_BxHxWxC in float32, measures).
NETWORKS = {"dit": "research.models.dit"}
PARTS = {"network": NETWORKS}
WEIGHTINGS = ("simple", "bound")
# In the bound, a squared error e of x0 costs e exp(-gamma_min) / 2 nats: here, an error of 1% of
# the range of pixels costs about a bit a dimension. That of v costs no more than that of eps.
LEAST_GAMMA_OF_X0 = -8.0


def default_model() -> ConfigDict:
    """Keys of `config.model` beside the network's; a study says what its images are."""
    return ConfigDict(
        dict(
            network="dit",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # 8-bit pixels, not floats
            num_classes=0,  # 0: no label is given to the network
            class_dropout=0.0,  # share of labels hidden in training, for guidance
            prediction="eps",
            schedule="log_linear",
            gamma_min=-13.3,
            gamma_max=5.0,
            gamma_mean=0.0,  # of schedule "normal"
            gamma_std=2.0,
            loss_weighting="simple",
        )
    )


def default_train() -> dict[str, Any]:
    """The optimizer that its recipe is tuned for, and an average of what it passes through."""
    return dict(optimizer="muon", weight_decay=0.03, clip_norm=0.0, ema_decay=0.9)


def default_sampling() -> ConfigDict:
    """Every key of `config.sampling`."""
    return ConfigDict(dict(sampler="ddim", steps=50))


def default_evaluation() -> ConfigDict:
    """The keys of `config.evaluation` this family reads; time_steps 0 is continuous time."""
    return ConfigDict(dict(time_samples=4, time_steps=0))


def check(config: Any, spec: dict[str, Any]) -> None:
    """Refuse a model that cannot be built or that does not fit the data's `spec`.

    Raises:
        UserError: naming the key, what was expected and the nearest valid choice.
    """
    model = config.model
    for section, key, choices in (
        ("model", "prediction", process.PREDICTIONS),
        ("model", "loss_weighting", WEIGHTINGS),
        ("sampling", "sampler", samplers.NAMES),
    ):
        check_choice(f"{section}.{key}", config[section][key], choices)
    if model.prediction == "x0" and model.gamma_min < LEAST_GAMMA_OF_X0:
        raise UserError(
            f"config.model.prediction='x0' with gamma_min={model.gamma_min}: the bound divides its "
            "error by sigma^2 there, which makes tens of bits of a good network; use 'v', which "
            f"is x0 preconditioned, or a gamma_min of at least {LEAST_GAMMA_OF_X0}"
        )
    if "shape" not in spec:
        raise UserError(
            f"config.data.name={config.data.name!r} gives tokens; family 'diffusion' reads "
            "images, such as glyphs or gaussian_mixture"
        )
    for key, of_data in (("image_shape", spec["shape"]), ("discrete", spec["discrete"])):
        if model[key] != of_data:
            raise UserError(
                f"config.model.{key}={model[key]} must be {of_data} for {config.data.name}"
            )
    if model.num_classes not in (0, spec["num_classes"]):
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be 0 or {spec['num_classes']}, "
            f"the classes of {config.data.name}"
        )
    if not 0 <= model.class_dropout < 1 or (model.class_dropout and not model.num_classes):
        raise UserError(
            f"config.model.class_dropout={model.class_dropout} must be in [0, 1), and 0 for a "
            "model without classes"
        )
    for section, key, least in (
        ("sampling", "steps", 1),
        ("evaluation", "time_samples", 1),
        ("evaluation", "time_steps", 0),
    ):
        if config[section][key] < least:
            raise UserError(
                f"config.{section}.{key}={config[section][key]} must be at least {least}"
            )
    make_schedule(config)


def make_schedule(config: Any) -> schedule.Schedule:
    """The noise schedule that `config.model` names."""
    model = config.model
    ends = (model.gamma_min, model.gamma_max)
    return schedule.make(model.schedule, *ends, model.gamma_mean, model.gamma_std)


def network(config: Any) -> tuple[Any, tuple[Array, Array, Array | None]]:
    """The Flax module that `config.model` names, and inputs of the right shapes to start it."""
    model, found = FrozenConfigDict(config.model), _part(config)
    image = jnp.zeros((1, *model.image_shape))
    label = jnp.zeros(1, jnp.int32) if model.num_classes else None
    return found.build(model, FrozenConfigDict(config.hardware)), (image, jnp.zeros(1), label)


def _part(config: Any) -> ModuleType:
    return part(sys.modules[__name__], "network", config.model)


def init(config: Any, key: Array) -> common.Params:
    """Parameters as a nested dict; the network's output starts at zero."""
    module, inputs = network(config)
    return common.init(module, key, *inputs)


def axes(config: Any) -> common.Params:
    """Logical axis names of every parameter, a tree like `init`'s."""
    module, inputs = network(config)
    return common.logical_axes(module, *inputs)


def pixels(image: Array) -> Array:
    """The data as the process sees it, float32: 8-bit levels to [-1, 1], floats as they are."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return bound.scale_levels(image)
    return image.astype(jnp.float32)


def apply(
    config: Any, params: common.Params, x_t: Array, gamma: Array, label: Any
) -> tuple[Array, dict[str, Array]]:
    """The network's raw prediction, [batch, height, width, channels], and what it measures."""
    module, _ = network(config)
    return common.apply(module, params, x_t, gamma, label if config.model.num_classes else None)


def predict_eps(config: Any, params: common.Params) -> bound.Predict:
    """The noise the network sees in x_t, as a function of (x_t, gamma [batch], label)."""

    def predict(x_t: Array, gamma: Array, label: Array | None) -> Array:
        output, _ = apply(config, params, x_t, gamma, label)
        return process.to_eps(config.model.prediction, output, x_t, gamma)

    return predict


def positions(config: Any) -> int:
    """Positions the network processes for one image."""
    return _part(config).positions(config)


def examples(batch: dict[str, Array]) -> Array:
    """Weight of each row, [batch]: 1 for an example, 0 for padding."""
    return batch.get("mask", jnp.ones(batch["image"].shape[0]))


def loss(
    config: Any, params: common.Params, batch: dict[str, Array], key: Array, step: Array
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch and its metrics.

    `simple` is the mean squared error of whatever the network predicts (Ho 2020, eq. 14);
    `bound` is the variational bound in bits per dimension (Kingma 2021), one time per image.
    The metric `bound` is that bound in either case, from the same times and noise.
    """
    del step
    model, image, label_B = config.model, batch["image"], batch.get("label")
    x0, path = pixels(image), make_schedule(config)
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    if model.class_dropout:
        hidden_B = jax.random.bernoulli(drop_key, model.class_dropout, x0.shape[:1])
        label_B = jnp.where(hidden_B, model.num_classes, batch["label"])
    times_B = process.stratified_times(time_key, x0.shape[:1])
    gamma_B, weight_B = bound.diffusion_weight(path, times_B)
    eps = jax.random.normal(noise_key, x0.shape)
    x_t = process.add_noise(x0, eps, gamma_B)
    output, measures = apply(config, params, x_t, gamma_B, label_B)
    target = process.target(model.prediction, x0, eps, gamma_B)
    error_B = jnp.mean((output - target) ** 2, axis=(1, 2, 3))

    dims = x0[0].size
    weight_B *= process.eps_error_weight(model.prediction, gamma_B)
    fixed_B = bound.reconstruction(image, model.gamma_min) + bound.prior(x0, model.gamma_max)
    bits_B = (weight_B * error_B + fixed_B / dims) / np.log(2)
    rows_B = examples(batch)
    mean = functools.partial(jnp.average, weights=rows_B)
    value = mean(error_B) if model.loss_weighting == "simple" else mean(bits_B)
    value += measures.pop("penalty", 0.0)
    return value, {"mse": mean(error_B), "bound": mean(bits_B), **measures}


def score(
    config: Any, params: common.Params, batch: dict[str, Array], key: Array
) -> dict[str, dict[str, Array]]:
    """Variational bound of the rows not masked: summed bits and number of dimensions.

    Each image is seen at `evaluation.time_samples` times spread evenly over log-SNR; the
    continuous bound depends on the schedule's ends only, so it is integrated along a straight
    line. `evaluation.time_steps` > 0 gives the bound of the process with that many steps of the
    schedule instead. Deterministic given `key`. With labels it bounds -log p(image | label).
    """
    model, image = config.model, batch["image"]
    x0, num_steps = pixels(image), config.evaluation.time_steps
    path = make_schedule(config)
    if num_steps == 0:
        path = schedule.make("log_linear", model.gamma_min, model.gamma_max)
    nats_B = bound.diffusion(
        predict_eps(config, params),
        path,
        x0,
        batch["label"] if model.num_classes else None,
        key,
        config.evaluation.time_samples,
        num_steps,
    )
    nats_B += bound.reconstruction(image, model.gamma_min) + bound.prior(x0, model.gamma_max)
    rows_B = examples(batch)
    bits = {"total": jnp.sum(rows_B * nats_B) / np.log(2), "count": jnp.sum(rows_B) * x0[0].size}
    return {"bound": bits}


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """What `score` measures."""
    return {"bound": {"unit": "bits/dim", "kind": "upper bound", "better": "lower"}}


def activations(
    config: Any, params: common.Params, batch: dict[str, Array], key: Array
) -> dict[str, Array]:
    """The stream after the last block, [B, L, D], and the raw prediction, [B, H, W, C], of a batch.

    The images are seen where signal and noise are equal.
    """
    x0, (module, _) = pixels(batch["image"]), network(config)
    gamma_B = jnp.zeros(len(x0))
    x_t = process.add_noise(x0, jax.random.normal(key, x0.shape), gamma_B)
    label_B = batch["label"] if config.model.num_classes else None
    x_BxLxD, (output, _) = common.stream(module, params, x_t, gamma_B, label_B)
    return {"stream": x_BxLxD, "output": output}


@functools.partial(jax.jit, static_argnames="config")
def draw(config: Any, params: common.Params, key: Array, label: Array) -> Array:
    """Samples for the given `label` [num] of a frozen config; see `sample`."""
    noise_key, sample_key = jax.random.split(key)
    model = config.model

    def denoise(x_t: Array, gamma: Array) -> Array:
        output, _ = apply(config, params, x_t, gamma, label)
        x0 = process.to_x0(model.prediction, output, x_t, gamma)
        return jnp.clip(x0, -1, 1) if model.discrete else x0  # the range pixels have (Ho 2020)

    noise = jax.random.normal(noise_key, (len(label), *model.image_shape))
    path, sampling = make_schedule(config), config.sampling
    x0 = samplers.run(sampling.sampler, denoise, path, noise, sample_key, sampling.steps)
    return bound.nearest_levels(x0) if model.discrete else x0


def sample(
    config: Any, params: common.Params, key: Array, num: int, label: Array | None = None
) -> np.ndarray:
    """Draw images [num, height, width, channels], uint8 if the data are, else float32.

    Classes are drawn uniformly unless `label` [num] is given.
    """
    label_key, draw_key = jax.random.split(key)
    if label is None:
        label = jax.random.randint(label_key, (num,), 0, max(config.model.num_classes, 1))
    used = {part: config[part] for part in ("model", "hardware", "sampling")}
    return np.asarray(draw(FrozenConfigDict(used), params, draw_key, label))
