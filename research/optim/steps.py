"""The step that every single-loss family shares: gradient, optimizer, new parameters."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import mesh
from research.optim import noise_scale, parametrization, roles
from research.optim.roles import map_names
from research.optim.settings import OTHERS, groups, load, matches, settings, step_kinds

DECAYED = ("input", "hidden", "output")  # roles of what weight decay is for: every matrix


def transform(config: ConfigDict, params: Any) -> optax.GradientTransformationExtraArgs:
    """What turns gradients of the trained ones of `params` into what the rate multiplies."""
    train, (known, factors) = config.train, _known(config, params)
    group = groups(train, known)
    parts = {name: settings(train, each) for name, each in train.groups.items()}
    parts |= {OTHERS: train}
    clip = optax.clip_by_global_norm(train.clip_norm) if train.clip_norm else optax.identity()
    stages = [clip]
    # Adam with eps times f moves as Adam does on gradients over f.
    eps = {n: 1 / f.eps for n, f in factors.items() if f.eps != 1 and "eps" in parts[group[n]]}
    if eps:
        stages.append(_times(eps))
    several = {part: load(parts[part].optimizer) for part in parts if part in group.values()}
    several = {part: each.transform(parts[part], known) for part, each in several.items()}
    if len(several) == 1:
        stages += several.values()
    else:
        labels = functools.partial(map_names, lambda name, _: group[name])
        stages.append(optax.partition(several, labels))
    for part, each in parts.items():
        whole = "weight_decay" in train.groups.get(part, ())
        decayed = roles.ROLES if whole else each.get("decayed", DECAYED)
        own = {n for n, p in known.items() if group[n] == part and p.role in decayed}
        # Where nothing decays there is a stage still: states of older runs have it.
        for factor in sorted({factors[name].decay for name in own} or {1.0}):
            some = {name for name in own if factors[name].decay == factor}
            mask = functools.partial(map_names, lambda name, _, some=some: name in some)
            decay = cautious_decay if train.cautious_decay else optax.add_decayed_weights
            stages.append(decay(factor * each.weight_decay, mask))
    rates = {
        name: factors[name].rate
        * train.rates.get(each.role, 1.0)
        * parts[group[name]].get("rate", 1.0)
        for name, each in known.items()
    }
    if set(rates.values()) - {1.0}:
        stages.append(_times(rates))
    inner, optimizer = optax.chain(*stages), load(train.optimizer)
    if not hasattr(optimizer, "wrap"):
        return optax.with_extra_args_support(inner)
    own = {name for name, each in parts.items() if each.optimizer == train.optimizer}
    return optimizer.wrap(train, inner, {n: p for n, p in known.items() if group[n] in own})


def _times(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply each leaf by its factor, where it has one."""

    def scaled(tree: Any, params: Any) -> Any:
        del params
        return map_names(lambda name, x: factors[name] * x if name in factors else x, tree)

    return optax.stateless(scaled)


def _known(config: ConfigDict, params: Any) -> tuple[dict, dict]:
    """What each of `params` is, and the factors that its parametrisation gives it, by name."""
    known = roles.parameters(config, params)
    kinds = step_kinds(config.train, known)
    return known, parametrization.scales(config, params, known, kinds)


def begun(config: ConfigDict, params: Any) -> Any:
    """Fresh `params` as the parametrisation has them begin."""
    _, factors = _known(config, params)
    return map_names(lambda n, x: x if factors[n].init == 1 else factors[n].init * x, params)


def cautious_decay(weight_decay: float, mask: Any) -> optax.GradientTransformation:
    """Decay of those weights that the update, too, brings nearer to 0 (Chen et al. 2025)."""

    def add(step: jax.Array, weight: jax.Array) -> jax.Array:
        return step + weight_decay * jnp.where(step * weight >= 0, weight, 0)

    return optax.masked(optax.stateless(lambda *trees: jax.tree.map(add, *trees)), mask)


def trained(config: ConfigDict, params: Any) -> Any:
    """`params` with an empty node in place of each that `config.train.frozen` names."""
    frozen = config.train.frozen
    if not frozen:
        return params
    return map_names(lambda name, x: optax.MaskedNode() if matches(name, frozen) else x, params)


def merged(some: Any, params: Any) -> Any:
    """`params` with `some` of them, a tree that `trained` gave, in their places."""

    def empty(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    return jax.tree.map(lambda new, old: old if empty(new) else new, some, params, is_leaf=empty)


def init(config: ConfigDict, params: Any) -> Any:
    """Optimizer state for the trained ones of `params`."""
    return transform(config, params).init(trained(config, params))


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
        The new state and metrics, the loss and the gradient's global norm among them; where
        `train.noise_scale` asks, those of `noise_scale.estimates`.
    """
    all_params, parts = state["params"], config.train.noise_scale or 1
    params = trained(config, all_params)

    def whole(params, batch, key):
        return loss(config, merged(params, all_params), batch, key, step)

    gradient = functools.partial(jax.value_and_grad(whole, has_aux=True), params)

    def of_part(batch, key):
        found = averaged(gradient, micro_batches(config) // parts)(batch, key)
        return found, noise_scale.square(found[1])

    ((value, metrics), grads), square = averaged(of_part, parts)(batch, key)
    if parts > 1:
        whole_square, size = noise_scale.square(grads), config.train.batch_size
        metrics = metrics | noise_scale.estimates(square, whole_square, parts, size)
    with jax.named_scope("optimizer"):
        updates, opt_state = transform(config, all_params).update(
            grads, state["opt_state"], params, learning_rate=rate
        )
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    metrics = {**metrics, "loss": value, "grad_norm": optax.global_norm(grads)}
    return {**state, "params": merged(params, all_params), "opt_state": opt_state}, metrics


def micro_batches(config: ConfigDict) -> int:
    """How many micro-batches a step takes, one after another."""
    return math.lcm(config.hardware.accumulation, config.train.noise_scale or 1)


def averaged(function: Callable, count: int) -> Callable:
    """`function` of a batch and a key as its mean over `count` micro-batches and keys."""
    if count == 1:
        return function

    def mean(batch, key):
        def add(sums, each):
            return jax.tree.map(lambda total, x: total + x / count, sums, function(*each)), None

        each = (jax.tree.map(lambda x: mesh.strided(x, count), batch), jax.random.split(key, count))
        shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], each))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(add, zeros, each)[0]

    return mean


def evaluated(config: ConfigDict, state: dict) -> Any:
    """The parameters that a run is scored and sampled with: an average where there is one."""
    if "ema" in state:
        return merged(state["ema"], state["params"])
    optimizer = load(config.train.optimizer)
    if not hasattr(optimizer, "evaluated"):
        return state["params"]
    some = jax.jit(optimizer.evaluated)(state["opt_state"], trained(config, state["params"]))
    return merged(some, state["params"])
