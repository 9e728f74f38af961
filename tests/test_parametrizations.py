"""Parametrisations: their tables, and activations that change as much at every width and depth."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import families, programs, recipes
from research.models import common
from research.models.transformer import Stack
from tests import shapes

WIDTHS, DEPTHS = (32, 128, 512), (2, 8, 32)


def make(family, parametrization, width=32, depth=2, **train):
    """A config with heads of 16 and, as rates are, one base for all sizes."""
    model = dict(width=width, depth=depth, num_heads=width // 16)
    config = getattr(shapes, family)(**model)
    flags = [f"--config.train.{key}={value}" for key, value in train.items()]
    from research import defaults

    defaults.override(config, [f"--config.train.parametrization={parametrization}", *flags])
    config.base.update(width=32, depth=2)
    return recipes.apply(config)


def movement(config, steps=4):
    """How far a few steps move what the stack makes of an input, and how large an output is.

    Both are root mean squares of elements, which start at about 1.
    """
    family, program = families.load(config.family), programs.build(config)
    state = program.init(jax.random.key(0))
    module = Stack(
        FrozenConfigDict(config.model),
        FrozenConfigDict(config.hardware),
        causal=config.family == "autoregressive",
    )
    x = jax.random.normal(jax.random.key(1), (4, 8, config.model.width))
    condition = None if config.family == "autoregressive" else x[:, 0]
    stack = jax.jit(lambda params: common.apply(module, params["stack"], x, condition)[0])
    before, batch = stack(state["params"]), examples(config)
    for step in range(steps):
        state, _ = program.step(state, batch, jax.random.key(2), step, config.train.learning_rate)
    moved = stack(state["params"]) - before
    return float(jnp.sqrt(jnp.square(moved).mean())), output(family, config, state["params"], batch)


def examples(config):
    if config.family == "autoregressive":
        return {"tokens": jax.random.randint(jax.random.key(3), (8, 9), 0, 16)}
    return {"image": jax.random.normal(jax.random.key(3), (8, 8, 8, 1))}


def output(family, config, params, batch):
    if config.family == "autoregressive":
        module = family.network(config)
        x, *_ = common.apply(module, params, batch["tokens"])
        y = family.head(config).logits(config, params, x)
    else:
        y, _ = family.apply(config, params, batch["image"], jnp.zeros(8), None)
    return float(jnp.sqrt(jnp.square(y).mean()))


def growth(rows):
    """The power of the size with which each column of `rows`, {size: row}, grows."""
    sizes = np.log(list(rows))
    return [np.polyfit(sizes, np.log(column), 1)[0] for column in zip(*rows.values(), strict=True)]


@pytest.mark.parametrize("family", ["autoregressive", "diffusion"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_activations_move_as_much_at_every_width(family, optimizer):
    train = dict(optimizer=optimizer, learning_rate=0.01)
    if optimizer == "muon":
        train |= dict(scale="spectral", neuron_b2=0.0)

    def powers(name):
        rows = {w: movement(make(family, name, width=w, **train)) for w in WIDTHS}
        print(family, optimizer, name, rows)
        return growth(rows)

    stream, out = powers("mup")
    assert abs(stream) < 0.2 and abs(out) < 0.2
    grown, out = powers("standard")
    assert out > 0.5
    assert grown > 0.3 or optimizer == "muon"  # whose spectral steps are muP's own


def test_activations_move_as_much_at_every_depth():
    def powers(name):
        train = dict(optimizer="adamw", learning_rate=0.003)
        rows = {d: movement(make("autoregressive", name, depth=d, **train)) for d in DEPTHS}
        print(name, rows)
        return growth(rows)[0]

    assert abs(powers("completep")) < 0.2
    assert powers("mup") > 0.4
