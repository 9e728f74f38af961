"""Muon: what it makes of a matrix, of a head and of a neuron, and what that costs."""

import functools
import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import cost, defaults, mesh, optim, programs, recipes
from research.optim import muon, roles, steps
from tests import shapes

AXES = {"qkv": ("layers", "embed", "heads", None, "head_dim"), "out": ("heads", "embed")}
KNOWN = {name: roles.describe(axes) for name, axes in AXES.items()}
APART = {
    "qkv": KNOWN["qkv"]._replace(heads=(2, 1)),
    "out": KNOWN["out"]._replace(heads=(0, 16)),
}


def gradients():
    """Two layers of very different size; well conditioned: singular values end near 1."""
    keys = jax.random.split(jax.random.key(0))
    qkv = jax.random.normal(keys[0], (2, 8, 2, 3, 16))
    return {
        "qkv": qkv * jnp.array([1.0, 9.0])[:, None, None, None, None],
        "out": jax.random.normal(keys[1], (32, 8)),
    }


def first_step(known=KNOWN, **changed):
    settings = defaults.ConfigDict({**muon.default_train(), "neuron_b2": 0.0, **changed})
    transform, grads = muon.transform(settings, known), gradients()

    @jax.jit
    def step(grads):
        return transform.update(grads, transform.init(grads), grads)[0]

    return jax.tree.map(np.asarray, (grads, step(grads)))


def assert_factor(step, gradient, length):
    """`step` is U V^T of `gradient`, its singular values about `length`."""
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    values = left.T @ step @ right.T / length
    assert np.all((0.65 < np.diag(values)) & (np.diag(values) < 1.25))
    np.testing.assert_allclose(values, np.diag(np.diag(values)), atol=2e-3)


def maps(tree):
    """[8, 32] of each layer and of each of q, k, v."""
    return np.moveaxis(tree["qkv"], 3, 1).reshape(6, 8, 32)


@pytest.mark.parametrize(
    "scale, of_qkv, of_out",
    [("rms", 0.2 * 32**0.5, 0.2 * 32**0.5), ("spectral", (32 / 8) ** 0.5, 1.0)],
)
def test_a_matrix_moves_by_its_orthogonal_factor(scale, of_qkv, of_out):
    """Each of the maps side by side for itself."""
    grads, found = first_step(scale=scale)
    for step, gradient in zip(maps(found), maps(grads), strict=True):
        assert_factor(step, gradient, of_qkv)
    assert_factor(found["out"], grads["out"], of_out)


@pytest.mark.parametrize(
    "scale, of_qkv, of_out",
    [("rms", 0.2 * 16**0.5, 0.2 * 16**0.5), ("spectral", (32 / 8) ** 0.5, 1.0)],
)
def test_heads_apart_are_matrices_by_themselves(scale, of_qkv, of_out):
    grads, found = first_step(APART, scale=scale, heads_apart=True)
    for step, gradient in zip(maps(found), maps(grads), strict=True):
        for head in (slice(16), slice(16, 32)):
            assert_factor(step[:, head], gradient[:, head], of_qkv)
    for head in (slice(16), slice(16, 32)):
        assert_factor(found["out"][head], grads["out"][head], of_out)


def test_heads_are_found_by_their_length():
    """Of grouped queries, too: `out` reads two heads of queries for each of keys."""
    config = shapes.autoregressive(num_heads=4, num_kv_heads=2)
    params = programs.parameter_shapes(config)
    known = roles.parameters(config, params)
    heads = {name: each.heads for name, each in known.items() if each.heads}
    at = "stack/blocks/attention/"
    assert heads == {f"{at}qkv/kernel": (2, 1), f"{at}out/kernel": (1, 4)}


def test_normuon_evens_neurons_and_keeps_the_norm_of_a_matrix():
    """The first step divides each neuron's weights by their own root mean square."""
    _, plain = first_step()
    _, even = first_step(neuron_b2=0.95)
    for before, after in zip([*maps(plain), plain["out"]], [*maps(even), even["out"]], strict=True):
        lengths = np.linalg.norm(after, axis=0)
        np.testing.assert_allclose(lengths, lengths[0], rtol=1e-5)
        assert np.ptp(np.linalg.norm(before, axis=0)) > 0.05 * lengths[0]
        np.testing.assert_allclose(np.linalg.norm(after), np.linalg.norm(before), rtol=1e-5)
        cosines = (before * after).sum(0) / np.linalg.norm(before, axis=0) / lengths
        np.testing.assert_allclose(cosines, 1.0, rtol=1e-5)


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_whole_matrices_are_dealt_out_over_a_mesh(apart):
    """Three layers over eight devices: nothing is gathered, and the update is one device's."""
    config = shapes.autoregressive(depth=3)
    config.train.optimizer = "muon"
    recipes.apply(config).train.update(heads_apart=apart, neuron_b2=0.9)
    config.hardware.mesh.update(data=1, fsdp=4, tensor=2)
    draw = np.random.default_rng(0)
    grads = jax.tree.map(
        lambda x: draw.normal(size=x.shape).astype(np.float32), programs.parameter_shapes(config)
    )

    def update(grads, state):
        return steps.transform(config, grads).update(grads, state, grads, learning_rate=0.1)[0]

    def on_grid(*arguments):
        with jax.sharding.use_abstract_mesh(mesh.make(config.hardware.mesh).abstract_mesh):
            return update(*arguments)

    state = jax.jit(functools.partial(optim.init, config))(grads)
    layout = jax.tree.map(lambda x: x.sharding, programs.build(config).state)
    over = (layout["params"], layout["opt_state"])
    split = jax.jit(on_grid, in_shardings=over, out_shardings=over[0])
    compiled = split.lower(grads, state).compile()
    leaves = map(jax.tree.leaves, (compiled(grads, state), jax.jit(update)(grads, state)))
    for many, one in zip(*leaves, strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-5)
    text = compiled.as_text() or ""
    sent = set(re.findall(r" (all-\w+(?:-\w+)?|reduce-scatter|collective-\w+)\(", text))
    # Norms and second moments are summed; heads, split already, make room for what fills the stack.
    assert sent == {"all-to-all", "all-reduce"} | ({"collective-permute"} if apart else set())


def optimizer_flops(**train):
    config = shapes.autoregressive()
    config.train.update(train)
    recipes.apply(config)
    return cost.groups(cost.executed(config)).get("optimizer", 0), cost.ledger(config).step_flops


@pytest.mark.parametrize("apart", [False, True])
def test_its_products_are_a_group_of_the_ledger(apart):
    """Newton-Schulz on a matrix [m, n], m the shorter: two products m m n and one m m m."""
    none, plain = optimizer_flops()
    found, step = optimizer_flops(optimizer="muon", heads_apart=apart, neuron_b2=0.9)
    # Of each layer: three maps and one back of 16 x 16, two heads each; two of 16 x 64.
    heads = [(8, 16)] * 8 if apart else [(16, 16)] * 4
    flops = sum(2 * m * m * n * 2 + 2 * m**3 for m, n in [*heads, *[(16, 64)] * 2])
    assert none == 0
    assert found == step - plain == 2 * 5 * flops
