"""Diffusion: a network that undoes Gaussian noise, scored by its variational bound.

The family protocol over one language, gamma = -log SNR: `schedule` (the path), `process` (the scale
of noisy images and what is predicted), `denoiser` (the network), `objectives` (what it learns),
`bound` (Kingma 2021), `samplers` and `drawing`. The network and the objective are parts.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import levels
from research.errors import UserError
from research.families.diffusion import (
    bound,
    denoiser,
    energy_distance,
    image_conditions,
    samplers,
    schedule,
)
from research.families.diffusion.denoiser import NETWORKS, drawn, make_process, make_schedule
from research.families.diffusion.drawing import REQUESTS, film, sample
from research.families.diffusion.objectives import OBJECTIVES
from research.families.diffusion.objectives.denoising import examples
from research.families.diffusion.process import PREDICTIONS, SCALES
from research.families.diffusion.step_schedules import STEP_SCHEDULES
from research.models import common
from research.parts import check_choice

__all__ = [
    "PARTS",
    "REQUESTS",
    "adopted",
    "axes",
    "check",
    "default_evaluation",
    "default_model",
    "default_sampling",
    "default_train",
    "film",
    "init",
    "loss",
    "network_calls",
    "positions",
    "reference",
    "sample",
    "score",
    "score_kinds",
]

PARTS = {"network": NETWORKS, "objective": OBJECTIVES}
# In the bound, a squared error e of x0 costs e exp(-gamma_min) / 2 nats: here, an error of 1% of
# the range of pixels costs about a bit a dimension. That of v costs no more than that of eps.
LEAST_GAMMA_OF_X0 = -8.0
MOST_GAMMA_OF_EPS = 30.0  # beyond it x_t has no signal that float32 could tell from its noise


def default_model() -> ConfigDict:
    """Keys of `config.model` beside the network's; a study says what its images are."""
    return ConfigDict(
        dict(
            network="dit",
            objective="denoising",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # whole numbers, not floats
            levels=256,  # of them
            num_classes=0,  # 0: no label is given to the network
            class_dropout=0.0,  # share of labels hidden in training, for guidance
            process="vp",
            prediction="eps",
            data_std=1.0,  # of prediction "edm" and of scale_input
            scale_input=False,  # the network sees images of unit variance
            text_vocab=0,  # words that the network knows; 0: it is given no text
            text_length=0,  # of the data's
            text_dropout=0.0,  # share of texts hidden in training, for guidance
            **image_conditions.default_model(),
            self_conditioning=False,  # the network sees its own guess of x_0
            fourier_features=(),  # (6, 7) in VDM, for long runs: short ones learn slower with them
            learned_variance=False,  # the network says how far a step back spreads
            schedule="log_linear",
            gamma_min=-13.3,
            gamma_max=5.0,
            gamma_mean=0.0,  # of schedule "normal"
            gamma_std=2.0,
            shift=1.0,  # times as wide as the images the schedule is made for
            zero_terminal=False,  # a schedule with a table ends without signal
        )
    )


def default_train() -> dict[str, Any]:
    """The optimizer that its recipe is tuned for, and an average of what it passes through."""
    return dict(optimizer="muon", weight_decay=0.03, clip_norm=0.0, ema_decay=0.9)


def default_sampling() -> ConfigDict:
    """The keys of `config.sampling` this family reads, those of every sampler among them."""
    own = dict(
        sampler="ddim",
        steps=50,
        step_schedule="time",
        rho=7.0,  # of step_schedule "edm"
        guidance=1.0,  # 1 is none
        guidance_interval=(),  # log-SNRs between which it is done; () is everywhere
        guidance_rescale=0.0,
    )
    return ConfigDict(own | samplers.default_sampling())


def default_evaluation() -> ConfigDict:
    """The keys of `config.evaluation` that this family and `ode_likelihood` read."""
    return ConfigDict(
        dict(
            time_samples=4,
            time_steps=0,  # 0: continuous time
            ode_steps=128,  # of 16x16 glyphs 256 give the same to .002 bits, 64 are .05 low
            ode_probes=1,  # of the divergence; 0: it is exact, at the cost of one a pixel
        )
    )


def check(config: Any, spec: dict[str, Any]) -> None:
    """Refuse a model that cannot be built or that does not fit the data's `spec`.

    Raises:
        UserError: naming the key, what was expected and the nearest valid choice.
    """
    for section, key, choices in (
        ("model", "prediction", PREDICTIONS),
        ("model", "process", SCALES),
        ("sampling", "step_schedule", STEP_SCHEDULES),
    ):
        check_choice(f"{section}.{key}", config[section][key], choices)
    samplers.check(config.sampling)
    if not config.sampling.rho > 0:
        raise UserError(f"config.sampling.rho={config.sampling.rho} must be positive")
    _check_data(config, spec)
    _check_text(config, spec)
    image_conditions.check(config.model, denoiser.part(config))
    _check_process(config.model)
    for section, key, least in (
        ("sampling", "steps", 1),
        ("evaluation", "time_samples", 1),
        ("evaluation", "time_steps", 0),
        ("evaluation", "ode_steps", 1),
        ("evaluation", "ode_probes", 0),
    ):
        if config[section][key] < least:
            raise UserError(
                f"config.{section}.{key}={config[section][key]} must be at least {least}"
            )
    check_guidance(config)
    make_schedule(config)
    of = objective(config)
    conditioned = config.model.text_vocab or config.model.image_condition != "none"
    if conditioned and config.model.objective != "denoising":
        raise UserError(
            f"config.model.objective={config.model.objective!r} is told of classes alone: set "
            "config.model.text_vocab=0 and image_condition='none', or use objective 'denoising'"
        )
    if config.get("init_from", {}).get("reference") and not hasattr(of, "reference"):
        raise UserError(
            f"config.init_from.reference={config.init_from.reference}: objective "
            f"{config.model.objective!r} keeps no reference"
        )


def check_guidance(config: Any) -> None:
    """Raise UserError for guidance that the run cannot have, or numbers that mean nothing."""
    options, model = config.sampling, config.model
    hidden = {"text": model.text_dropout} if model.text_vocab else {}
    if model.num_classes or not hidden:
        hidden["class"] = model.class_dropout
    unlearned = [name for name, share in hidden.items() if not share]
    if options.guidance != 1 and unlearned:
        raise UserError(
            f"config.sampling.guidance={options.guidance} pushes away from images of no "
            f"{unlearned[0]}, which this run has not learned: it needs config.model."
            f"{unlearned[0]}_dropout above 0, such as 0.1, or another run to be pushed away from"
        )
    if not 0 <= options.guidance < np.inf:
        raise UserError(f"config.sampling.guidance={options.guidance} must not be negative")
    if not 0 <= options.guidance_rescale <= 1:
        raise UserError(
            f"config.sampling.guidance_rescale={options.guidance_rescale} must be from 0 to 1"
        )
    interval = options.guidance_interval
    if interval and not (len(interval) == 2 and interval[0] < interval[1]):
        raise UserError(
            f"config.sampling.guidance_interval={interval} must be two log-SNRs, the lower first"
        )


def _check_process(model: Any) -> None:
    """Raise UserError for a prediction that float32 cannot turn into a score or a sample."""
    if model.prediction == "x0" and model.gamma_min < LEAST_GAMMA_OF_X0:
        raise UserError(
            f"config.model.prediction='x0' with gamma_min={model.gamma_min}: the bound divides its "
            "error by sigma^2 there, which makes tens of bits of a good network; use 'v', which "
            f"is x0 preconditioned, or a gamma_min of at least {LEAST_GAMMA_OF_X0}"
        )
    if model.prediction in ("eps", "score") and (
        model.zero_terminal or model.gamma_max > MOST_GAMMA_OF_EPS
    ):
        raise UserError(
            f"config.model.prediction={model.prediction!r} with gamma_max={model.gamma_max} and "
            f"zero_terminal={model.zero_terminal}: where there is no signal, noise says nothing of "
            f"x_0 (Lin 2024); use 'v', or a gamma_max of at most {MOST_GAMMA_OF_EPS}"
        )
    if not model.data_std > 0:
        raise UserError(f"config.model.data_std={model.data_std} must be positive")


def _check_data(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no images, or others than the model's."""
    model = config.model
    levels.check(config, spec)
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


def _check_text(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for a text that the data do not have or the network does not read."""
    model, network = config.model, denoiser.part(config)
    if model.text_vocab and "text" not in getattr(network, "READS", ()):
        raise UserError(
            f"config.model.network={model.network!r} reads no text: use dit, uvit or mmdit, or "
            "config.model.text_vocab=0"
        )
    if model.text_vocab and "text" not in spec:
        raise UserError(
            f"config.model.text_vocab={model.text_vocab}: {config.data.name!r} gives no text; "
            "nearest valid: 0, or data with words"
        )
    text = spec["text"] if model.text_vocab else {"vocab_size": 0, "length": 0}
    for key, of_data in (("text_vocab", text["vocab_size"]), ("text_length", text["length"])):
        if model.text_vocab and model[key] != of_data:
            raise UserError(
                f"config.model.{key}={model[key]} must be {of_data}, as the text of "
                f"{config.data.name} is"
            )
    if not 0 <= model.text_dropout < 1 or (model.text_dropout and not model.text_vocab):
        raise UserError(
            f"config.model.text_dropout={model.text_dropout} must be in [0, 1), and 0 for a model "
            "without text"
        )


def objective(config: Any) -> Any:
    """What the network learns: the part that `config.model.objective` names."""
    return denoiser.objective(config.model.objective)


def init(config: Any, key: Array) -> common.Params:
    """Parameters as a nested dict; the network's output starts at zero."""
    return getattr(objective(config), "init", denoiser.init)(config, key)


def axes(config: Any) -> common.Params:
    """Logical axis names of every parameter, a tree like `init`'s."""
    return getattr(objective(config), "axes", denoiser.axes)(config)


def adopted(config: Any, params: common.Params) -> common.Params:
    """Another run's parameters as this one's objective begins with them."""
    of = objective(config)
    return of.adopted(params) if hasattr(of, "adopted") else params


def positions(config: Any) -> int:
    """Positions the network processes for one image."""
    return denoiser.part(config).positions(config)


def reference(config: Any, params: common.Params) -> Any:
    """Frozen parameters that the objective keeps beside the trained ones, or None."""
    of = objective(config)
    return of.reference(config, params) if hasattr(of, "reference") else None


def loss(
    config: Any,
    params: common.Params,
    batch: dict[str, Array],
    key: Array,
    step: Array,
    reference: Any = None,
) -> tuple[Array, dict[str, Array]]:
    """Training loss of one batch and its metrics, as the objective has it."""
    return objective(config).loss(config, params, batch, key, step, reference)


def score(
    config: Any, params: common.Params, batch: dict[str, Array], key: Array
) -> dict[str, dict[str, Array]]:
    """Variational bound of the rows not masked: summed bits and number of dimensions.

    An objective that learns no denoiser is scored by what it draws: see `_score_of_draws`.
    Each image is seen at `evaluation.time_samples` times spread evenly over log-SNR; the
    continuous bound depends on the schedule's ends only, so it is integrated along a straight
    line. `evaluation.time_steps` > 0 gives the bound of the process with that many steps of the
    schedule instead. Deterministic given `key`. With labels it bounds -log p(image | label).
    """
    if hasattr(objective(config), "sample"):
        return _score_of_draws(config, params, batch, key)
    model, image = config.model, batch["image"]
    x0, num_steps = denoiser.pixels(config, image), config.evaluation.time_steps
    path = make_schedule(config)
    if num_steps == 0:
        path = schedule.make("log_linear", path.gammas[0], path.gammas[-1])
    known = denoiser.known(config, batch, jax.random.fold_in(key, 1))
    predict = denoiser.predict_eps(config, params, known)
    samples = config.evaluation.time_samples
    nats_B = bound.diffusion(predict, make_process(config), path, x0, key, samples, num_steps)
    nats_B += bound.reconstruction(image, model.gamma_min, model.levels)
    nats_B += bound.prior(x0, path.gammas[-1])
    rows_B = examples(batch)
    bits = {"total": jnp.sum(rows_B * nats_B) / np.log(2), "count": jnp.sum(rows_B) * x0[0].size}
    return {"bound": bits}


def _score_of_draws(
    config: Any, params: common.Params, batch: dict[str, Array], key: Array
) -> dict[str, dict[str, Array]]:
    """Energy distance of drawn images to those of a batch, and what the objective adds to it.

    As many are drawn as the batch has, of the same classes, in the fewest calls of the network that
    the objective is for: 1, or its `calls`. It bounds no likelihood.
    """
    of, x0, rows_B = objective(config), denoiser.pixels(config, batch["image"]), examples(batch)
    noise_key, sample_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, x0.shape)
    given = denoiser.known(config, batch, sample_key)
    network, steps = drawn(config, params), of.calls(config) if hasattr(of, "calls") else 1
    y = of.sample(config, network, noise, sample_key, given, steps)
    y = jnp.clip(y, -1, 1) if config.model.discrete else y
    found = {"energy": energy_distance.between(y, x0, rows_B)}
    if hasattr(of, "scores"):
        for name, each_B in of.scores(config, network, noise, given).items():
            found[name] = {"total": jnp.sum(rows_B * each_B), "count": jnp.sum(rows_B)}
    return found


def network_calls(config: Any) -> int:
    """How often drawing an image calls the network."""
    of, options = objective(config), config.sampling
    if hasattr(of, "sample"):
        return getattr(of, "network_calls", lambda config: options.steps)(config)
    return samplers.network_calls(options) * (1 if options.guidance == 1 else 2)


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """What `score` measures."""
    of = objective(config)
    if hasattr(of, "sample"):
        energy = {"unit": "energy distance", "kind": "estimate", "better": "lower"}
        return {"energy": energy, **getattr(of, "more_kinds", dict)()}
    return {"bound": {"unit": "bits/dim", "kind": "upper bound", "better": "lower"}}


def activations(
    config: Any, params: common.Params, batch: dict[str, Array], key: Array
) -> dict[str, Array]:
    """The stream after the last block, [B, L, D], and the raw output, [B, H, W, C], of a batch.

    The images are seen where signal and noise are equal.
    """
    x0, (module, _) = denoiser.pixels(config, batch["image"]), denoiser.network(config)
    gamma_B, of = jnp.zeros(len(x0)), make_process(config)
    x_t = of.add_noise(x0, jax.random.normal(key, x0.shape), gamma_B)
    given = denoiser.known(config, batch, jax.random.fold_in(key, 1))._replace(gamma_B=gamma_B)
    if getattr(objective(config), "TWO_TIMES", False):
        given = given._replace(until_B=gamma_B)
    seen = denoiser.seen(config, x_t, given)
    x_BxLxD, (output, _) = common.stream(module, drawn(config, params), *seen)
    return {"stream": x_BxLxD, "output": output}
