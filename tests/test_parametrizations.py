"""Parametrisations: their tables, and activations that change as much at every width and depth."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import defaults, families, optim, programs, recipes, study
from research.errors import UserError
from research.families.diffusion import denoiser
from research.models import common
from research.models.conditions import Conditions
from research.models.transformer import Stack
from research.optim import completep, mup, roles, spectral
from research.optim.parametrization import Scales, Weight
from tests import shapes

KEY = jax.random.key(0)
WIDTHS, DEPTHS = (32, 128, 512), (2, 8, 32)
WRITERS = ("out/kernel", "down/kernel")  # of the stream
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def make(family, parametrization, width=32, depth=2, **train):
    """A config with heads of 16 and, as rates are, one base for all sizes."""
    model = dict(width=width, depth=depth, num_heads=width // 16)
    config = getattr(shapes, family)(**model)
    flags = [f"--config.train.{key}={value}" for key, value in train.items()]
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
        y, _ = denoiser.apply(config, params, batch["image"], Conditions(jnp.zeros(8)))
    return float(jnp.sqrt(jnp.square(y).mean()))


def growth(rows):
    """The power of the size with which each column of `rows`, {size: row}, grows."""
    sizes = np.log(list(rows))
    return [np.polyfit(sizes, np.log(column), 1)[0] for column in zip(*rows.values(), strict=True)]


@pytest.mark.parametrize(
    "family, optimizer, widths, grown",
    [
        slow("autoregressive", "adamw", WIDTHS, 2),
        slow("diffusion", "adamw", WIDTHS, 2),
        slow("autoregressive", "muon", WIDTHS, 1),  # the head's; Muon's own steps are muP's
        slow("diffusion", "muon", WIDTHS, 0),
    ],
)
def test_activations_move_as_much_at_every_width(family, optimizer, widths, grown):
    """Under muP; under the standard parametrisation what moves by Adam grows."""
    train: dict[str, Any] = dict(optimizer=optimizer, learning_rate=0.01)
    if optimizer == "muon":
        train |= dict(scale="spectral", neuron_b2=0.0)

    def powers(name):
        return growth({w: movement(make(family, name, width=w, **train)) for w in widths})

    assert max(map(abs, powers("mup"))) < 0.35
    assert sum(power > 0.4 for power in powers("standard")) == grown


@pytest.mark.slow
def test_activations_move_as_much_at_every_depth():
    def powers(name):
        train: dict[str, Any] = dict(optimizer="adamw", learning_rate=0.003)
        rows = {d: movement(make("autoregressive", name, depth=d, **train)) for d in DEPTHS}
        return growth(rows)[0]

    assert abs(powers("completep")) < 0.2
    assert powers("mup") > 0.4


def weight(role="hidden", step="element", residual=False, width=4.0, depth=1.0, sides=(64, 128)):
    return Weight(role, role == "hidden", residual, sides[0], sides[1], width, depth, step)


@pytest.mark.parametrize(
    "given, expected",
    [
        (weight(), Scales(1, 1 / 4, 4, 1 / 4)),
        (weight(step="spectral"), Scales(1, 1, 1, 1 / 4)),
        (weight(step="orthogonal"), Scales(1, 1 / 2, 2, 1 / 4)),
        (weight(step="gradient"), Scales(1, 1, 1, 1 / 4)),
        (weight("output"), Scales(1 / 2, 1 / 4, 4, 1)),
        (weight("input"), Scales(1, 1, 1, 1 / 4)),
        (weight("input", "gradient"), Scales(1, 4, 1 / 4, 1 / 4)),
        (weight(step="angle"), Scales(1, 1, 1, 1 / 4)),
        (weight("scalar"), Scales(1, 1, 1, 1 / 4)),
    ],
)
def test_mup_is_its_table(given, expected):
    """Yang et al. 2022, table 3, where the network's own variance is 1 / inputs."""
    assert mup.scales(given) == expected


def test_completep_divides_what_writes_the_stream():
    """With W = W' L a branch W' / L: the steps of W' are L times those of W, its gradient 1 / L."""
    plain, deep = (weight(residual=True, depth=d) for d in (1.0, 16.0))
    before, after = completep.scales(plain), completep.scales(deep)
    assert after == Scales(before.init / 4, before.rate / 16, before.decay * 16, before.eps)
    inside = completep.scales(weight(depth=16.0))
    assert inside == mup.scales(weight())._replace(eps=1 / 4 / 16)
    turns = completep.scales(weight(residual=True, depth=16.0, step="angle"))
    assert turns.rate == 1 and turns.init == after.init  # relative to what began smaller
    by_gradient = [
        completep.scales(weight(step="gradient", residual=residual, depth=16.0)).rate
        for residual in (False, True)
    ]
    assert by_gradient == [16, 1 / 16]


def test_spectral_steps_have_the_norm_of_the_condition():
    """Coherent steps of elements of size 1 have a spectral norm of sqrt(inputs outputs)."""
    wide = weight(sides=(256, 64))
    found = spectral.scales(wide)
    assert found.rate * (256 * 64) ** 0.5 == pytest.approx((64 / 256) ** 0.5)
    assert found.init == pytest.approx((64 / 256) ** 0.5)
    assert spectral.scales(wide._replace(step="spectral")).rate == 1


def test_what_writes_the_stream_is_found_by_its_axes():
    mixture = shapes.autoregressive(channel="moe", num_experts=4)
    for config in (shapes.autoregressive(), shapes.diffusion(), mixture):
        params = programs.parameter_shapes(config)
        found = {n for n, p in roles.parameters(config, params).items() if p.residual}
        channel = "mlp/down" if config is mixture else "mlp/down/kernel"
        matrices = {f"stack/blocks/{n}" for n in ("attention/out/kernel", channel)}
        assert matrices <= found <= matrices | {n.replace("kernel", "bias") for n in matrices}


def test_what_writes_the_stream_begins_smaller_and_the_rest_as_ever():
    def start(name):
        config = make("autoregressive", name, depth=8)
        assert not config.model.zero_outputs
        return jax.jit(
            lambda: optim.begun(config, families.load(config.family).init(config, KEY))
        )()

    one, other = start("standard"), start("completep")
    smaller = roles.map_names(lambda n, x: x / 2 if n.endswith(WRITERS) else x, one)  # sqrt(2 / 8)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), smaller, other))


def test_a_ladder_leaves_width_to_the_parametrisation():
    """The rate of AdamW is the base's, and muP divides it by the width's ratio."""

    def rate(size, name, base=0):
        config = shapes.autoregressive()
        config.recipe, config.size, config.base.width = "ladder", size, base
        config.train.parametrization = name
        with config.ignore_type():
            config.model.update(width=None, depth=None, num_heads=None)
            config.train.update(batch_size=None, learning_rate=None)
        return recipes.apply(config).train.learning_rate

    assert rate(128, "standard") == rate(32, "standard") * 32 / 128
    assert rate(128, "mup", base=32) == rate(32, "standard")


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"parametrization": "mop"}, "did you mean 'mup'"),
        ({"parametrization": "mup", "base": {"width": 0}}, "needs config.base.width"),
        ({"parametrization": "completep", "base": {"depth": 0}}, "needs config.base.depth"),
        ({"parametrization": "mup", "base": {"width": -8}}, "config.base.width=-8 must be"),
        ({"parametrization": "mup", "tie": True}, "tie_embeddings must be False"),
    ],
)
def test_what_a_parametrisation_cannot_do_is_said(keys, message):
    config = make("autoregressive", "standard")
    config.train.parametrization = keys["parametrization"]
    config.base.update(keys.get("base", {}))
    config.model.tie_embeddings = keys.get("tie", False)
    with pytest.raises(UserError, match=message):
        study.check(config)
