"""Matrices on spheres: their norm stays, decay does nothing, the rate is an angle."""

from typing import Any

import jax
import numpy as np
import pytest

from research import optim, programs, recipes
from research.optim import roles
from tests import shapes


def config_of(**train):
    config = shapes.autoregressive(depth=1)
    train |= dict(optimizer="hypersphere", newton_schulz_steps=2, clip_norm=0.0)
    config.train.update(train)
    return recipes.apply(config)


def stepped(config, steps, *rates, zeros=()) -> dict[str, Any]:
    """Parameters before and after so many steps on gradients of chance, [rate, ...], by name."""
    draw = np.random.default_rng(0)
    shapes_of = programs.parameter_shapes(config)
    params = jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), shapes_of)
    params = roles.map_names(lambda name, x: x * (name not in zeros), params)

    def loss(config, params, batch, key, step):
        noise = jax.tree.map(lambda x: jax.random.normal(key, x.shape), params)
        return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), params, noise))), {}

    @jax.jit
    @jax.vmap
    def run(rate):
        state = {"params": params, "opt_state": optim.init(config, params)}

        def one(state, key):
            return optim.update(loss, config, state, {}, key, 0, rate)[0], None

        return jax.lax.scan(one, state, jax.random.split(jax.random.key(1), steps))[0]["params"]

    found = zip(
        roles.parameters(config, params).items(),
        *map(jax.tree.leaves, (params, run(np.asarray(rates, np.float32)))),
        strict=True,
    )
    return {name: (each, before, np.asarray(after)) for (name, each), before, after in found}


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_norms_stay_and_decay_does_nothing(direction):
    plain = stepped(config_of(direction=direction, weight_decay=0.0), 50, 0.1)
    decayed = stepped(config_of(direction=direction, weight_decay=3.0), 50, 0.1)
    for name, (each, before, after) in plain.items():
        if each.role == "hidden":
            norms = ((x**2).sum(each.reads + each.writes) ** 0.5 for x in (before, after[0]))
            np.testing.assert_allclose(*norms, rtol=3e-6)
            assert np.abs(after[0] - before).max() > 0.1
            np.testing.assert_allclose(decayed[name][2], after, atol=1e-3)


def test_a_step_turns_a_matrix_by_an_angle_of_the_rate():
    """By rate times the sine of the angle between the matrix and the step, which is near 1 here."""
    for each, before, after in stepped(config_of(), 1, 0.0, 0.2).values():
        if each.role == "hidden":
            axes = each.reads + each.writes
            still, turned = ((before * x).sum(axes) / (before**2).sum(axes) for x in after)
            np.testing.assert_allclose(still, 1, rtol=1e-6)
            assert np.all(np.arccos(turned) <= 0.2 + 1e-3)
            assert np.all(np.arccos(turned) >= 0.9 * 0.2)


def test_what_begins_at_zero_moves_freely():
    name = "stack/blocks/mlp/down/kernel"
    _, before, after = stepped(config_of(weight_decay=0.0), 1, 0.1, zeros=(name,))[name]
    assert not before.any()
    np.testing.assert_allclose((after[0] ** 2).sum((1, 2)) ** 0.5, 0.1 * 16**0.5, rtol=1e-3)
