"""The DiT network: published sizes to the digit, zero at the start, FLOPs as XLA counts them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from research import cost, defaults, parts, presets
from research.data import source
from research.families import diffusion
from research.families.diffusion import denoiser
from research.models import common, dit
from research.models.conditions import Conditions
from tests import shapes as tests_shapes

HARDWARE = FrozenConfigDict({**defaults.hardware(), "unroll": 1})


def small(**changes) -> Any:
    model = ConfigDict(parts.keys(diffusion, {}))
    model.update(depth=2, width=32, num_heads=4, image_shape=(8, 12, 3), num_classes=3)
    model.update({"fourier_features": (6, 7), **changes})
    return ConfigDict(dict(model=model, hardware=dict(HARDWARE)))


def ledger_of(config):
    """The ledger on images of the shape that the network says."""
    return cost.Ledger(config, source.images(config.model.image_shape, "a", discrete=False))


@pytest.mark.parametrize("name", [name for name in presets.DENOISERS if name.startswith("dit")])
def test_published_table(name):
    """Parameters and multiply-adds, with the outputs that say how far a step back spreads."""
    published, model = presets.denoiser(name)
    config = tests_shapes.diffusion()
    config.model, config.hardware.unroll = model, 1
    ledger = ledger_of(config)
    assert ledger.total_params == published.total
    assert ledger.flops / 2e9 == pytest.approx(published.multiply_adds, abs=0.005001)


def test_ledger_is_xlas_count():
    """Unrolled, XLA's count, which has norms and softmax in it too: a few per cent here."""
    config = small(width=128, image_shape=(16, 16, 3))
    config.hardware.unroll = 2
    module, inputs = denoiser.network(config)
    params = jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0)))
    lowered = jax.jit(lambda p: common.apply(module, p, *inputs)).lower(params)
    whole = tests_shapes.diffusion()
    whole.model = config.model
    ratio = (lowered.cost_analysis() or {})["flops"] / ledger_of(whole).flops
    assert 1 <= ratio < 1.05


def make_params(config):
    """Parameters of the right shapes, none of them zero."""
    generator = np.random.default_rng(7)
    return jax.tree.map(
        lambda leaf: 0.2 * generator.normal(size=leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0))),
    )


def test_output_is_zero_at_the_start():
    """adaLN-zero: the output, and every gradient but the last layer's, is exactly zero."""
    config = small()
    params = jax.jit(lambda: diffusion.init(config, jax.random.key(0)))()
    x_t = jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
    gamma, label = jnp.array([-3.0, 2.0]), jnp.array([0, 2])

    def total(params):
        output, _ = denoiser.apply(config, params, x_t, Conditions(gamma, label))
        return jnp.sum(output**2 + output), output

    gradient, output = jax.jit(jax.grad(total, has_aux=True))(params)
    assert output.shape == x_t.shape and output.dtype == jnp.float32
    assert not np.any(output)
    assert np.any(gradient.pop("final")["kernel"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_output_depends_on_every_input_and_pixel():
    config = small(class_dropout=0.1)
    params = jax.tree.map(jnp.asarray, make_params(config))
    x_t = np.random.default_rng(0).normal(size=(1, 8, 12, 3)).astype(np.float32)

    @jax.jit
    def output_and_reach(gamma, label):
        def corner(x_t):
            output, _ = denoiser.apply(config, params, x_t, Conditions(gamma, label))
            return output[0, 0, 0, 0], output

        return jax.grad(corner, has_aux=True)(x_t)

    def run(gamma, label):
        return output_and_reach(np.array([gamma], np.float32), np.array([label]))

    reach, base = run(1.0, 0)
    for _, other in (run(1.5, 0), run(1.0, 1), run(1.0, 3)):
        assert np.abs(other - base).min() > 0
    assert np.all(reach != 0)  # attention is not causal


def test_patches_are_squares_in_raster_order():
    image = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = dit.patchify(image, 2)
    assert patches.shape == (2, 6, 12)
    assert np.array_equal(patches[1, 4], image[1, 2:4, 2:4].reshape(-1))
    assert np.array_equal(dit.unpatchify(patches, 2, 4, 6), image)


def test_axes_match_the_parameters():
    config = small()
    params = jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0)))
    matched = jax.tree.map(
        lambda leaf, names: len(names) == leaf.ndim, params, diffusion.axes(config)
    )
    assert all(jax.tree.leaves(matched))


def test_every_position_is_different():
    grid = dit.grid_positions(4, 6, 16)
    distance = jnp.abs(grid[:, None] - grid[None]).max(-1)
    assert grid.shape == (24, 16) and (distance + jnp.eye(24)).min() > 0.05
