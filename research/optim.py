"""Learning-rate schedules and the optimizer step every single-loss family shares."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import config as configs
from research import mesh
from research.errors import UserError, nearest

SCHEDULES = ("wsd", "cosine", "constant")
RANGES = {  # [low, high) of the keys of `config.train`
    **dict.fromkeys(("steps", "batch_size"), (1, 2**31)),
    **dict.fromkeys(("warmup_steps", "decay_steps", "weight_decay", "clip_norm"), (0, math.inf)),
    **dict.fromkeys(("b1", "b2", "ema_decay"), (0, 1)),
    "eps": (0, math.inf),
}
UNDECAYED = ("scale", "bias", "positions")


def default_train() -> ConfigDict:
    """Keys of `config.train`; None means "the recipe decides"."""
    return ConfigDict(
        dict(
            steps=placeholder(int),
            batch_size=placeholder(int),
            learning_rate=placeholder(float),
            schedule="wsd",
            warmup_steps=placeholder(int),
            decay_steps=placeholder(int),  # the cooldown of "wsd"
            weight_decay=0.1,
            b1=0.9,
            b2=0.95,
            eps=1e-8,
            clip_norm=1.0,
            ema_decay=0.0,  # 0: no average kept
        )
    )


def check(train: ConfigDict) -> None:
    """Raise UserError for a schedule that is unknown or does not fit its horizon."""
    if train.schedule not in SCHEDULES:
        raise UserError(
            f"config.train.schedule={train.schedule!r} is not one of {', '.join(SCHEDULES)}"
            f"{nearest(train.schedule, SCHEDULES)}"
        )
    configs.check_ranges(train, "config.train", RANGES)
    if not 0 < train.learning_rate < math.inf:
        raise UserError(f"config.train.learning_rate={train.learning_rate} must be positive")
    decay = train.decay_steps if train.schedule == "wsd" else 0
    if train.warmup_steps + decay > train.steps:
        and_decay = f" + decay_steps={decay}" if decay else ""
        raise UserError(
            f"config.train: warmup_steps={train.warmup_steps}{and_decay} exceed "
            f"steps={train.steps}; give it more steps or a shorter warm-up"
        )


def learning_rate(train: ConfigDict, step: int) -> float:
    """The learning rate of 0-based `step`.

    All schedules rise linearly over `warmup_steps`. "wsd" then holds and, over the last
    `decay_steps`, falls as 1 - sqrt(fraction) (Haegele et al. 2024, eq. 1), so that runs of
    every horizon share one trunk. "cosine" falls to a tenth (Hoffmann et al. 2022).
    """
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    if train.schedule == "wsd":
        into = step - (train.steps - train.decay_steps)
        fraction = 1 - math.sqrt((into + 1) / (train.decay_steps + 1)) if into >= 0 else 1.0
    elif train.schedule == "cosine":
        done = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
        fraction = 0.55 + 0.45 * math.cos(math.pi * done)
    else:
        fraction = 1.0
    return train.learning_rate * fraction


def transform(train: ConfigDict) -> optax.GradientTransformation:
    """AdamW without its learning rate (the step multiplies by it), decaying only matrices."""

    def decayed(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: getattr(path[-1], "key", None) not in UNDECAYED, params
        )

    return optax.chain(
        optax.clip_by_global_norm(train.clip_norm) if train.clip_norm else optax.identity(),
        optax.scale_by_adam(train.b1, train.b2, train.eps),
        optax.add_decayed_weights(train.weight_decay, decayed),
    )


def init(config: ConfigDict, params: Any) -> Any:
    """Optimizer state for `params`."""
    return transform(config.train).init(params)


def update(
    loss: Callable, config: ConfigDict, state: dict, batch: dict, key, step, rate
) -> tuple[dict, dict]:
    """One gradient step of `loss`, over `hardware.accumulation` micro-batches.

    Args:
        loss: a family's `loss(config, params, batch, key, step) -> (scalar, metrics)`.
        state: {"params", "opt_state", ...}; other entries pass through.
        step: how many steps were before this one, a scalar.
        rate: learning rate, a scalar.

    Returns:
        The new state and metrics, the loss and the gradient's global norm among them.
    """
    count = config.hardware.accumulation
    gradient = jax.value_and_grad(lambda p, b, k: loss(config, p, b, k, step), has_aux=True)
    if count == 1:
        (value, metrics), grads = gradient(state["params"], batch, key)
    else:
        micro = jax.tree.map(lambda x: mesh.strided(x, count), batch)

        def add(sums, each):
            outputs = gradient(state["params"], *each)
            return jax.tree.map(lambda total, x: total + x / count, sums, outputs), None

        each = (micro, jax.random.split(key, count))
        shapes = jax.eval_shape(gradient, state["params"], *jax.tree.map(lambda x: x[0], each))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        ((value, metrics), grads), _ = jax.lax.scan(add, zeros, each)
    updates, opt_state = transform(config.train).update(grads, state["opt_state"], state["params"])
    params = jax.tree.map(lambda p, u: p - rate * u, state["params"], updates)
    metrics = {**metrics, "loss": value, "grad_norm": optax.global_norm(grads)}
    return {**state, "params": params, "opt_state": opt_state}, metrics
