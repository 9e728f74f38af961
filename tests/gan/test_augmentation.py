"""Augmented images, and the chance that is moved by how sure the discriminator is."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import families, programs
from research.errors import UserError
from research.families import gan
from research.families.gan import augmentation
from tests import shapes

KEY = jax.random.key(0)
SPEC = {"shape": (8, 8, 1), "num_classes": 4, "discrete": False, "levels": 0}


def images(rows=8):
    return jnp.asarray(np.random.default_rng(0).normal(size=(rows, 8, 8, 1)), jnp.float32)


def test_without_a_chance_nothing_changes_and_with_one_everything_may():
    x = images(400)
    np.testing.assert_array_equal(augmentation.augmented(x, jnp.zeros(()), KEY), x)
    changed = (augmentation.augmented(x, jnp.ones(()), KEY) != x).any((1, 2, 3))
    assert changed.all()
    some = (augmentation.augmented(x, jnp.float32(0.1), KEY) != x).any((1, 2, 3)).mean()
    # Four changes, of which mirroring changes half and a shift eight of nine.
    expected = 1 - 0.95 * (1 - 0.1 * 8 / 9) * 0.9 * 0.9
    assert float(some) == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize(
    "change, kept",
    [("_mirrored", True), ("_shifted", True), ("_brighter", False), ("_cut", False)],
)
def test_what_a_change_keeps(change, kept):
    """Mirrored and shifted images have the same pixels; the others have other ones."""
    x, of = images(1)[0], getattr(augmentation, change)
    found = np.stack([of(x, key) for key in jax.random.split(KEY, 20)])
    same = [np.array_equal(np.sort(each.ravel()), np.sort(np.ravel(x))) for each in found]
    assert all(same) == kept
    assert len(np.unique(found.reshape(20, -1), axis=0)) > 1
    if change == "_cut":
        assert ((found == 0).sum((1, 2, 3)) <= 16).all() and (found == 0).any()
    if change == "_brighter":
        np.testing.assert_allclose(
            found - np.asarray(x), (found - x)[:, :1, :1] + 0 * found, atol=1e-5
        )


def test_gradients_pass():
    slope = jax.grad(lambda x: augmentation.augmented(x, jnp.ones(()), KEY).sum())(images())
    assert float(jnp.abs(slope).sum()) > 0 and set(np.unique(slope)) <= {0.0, 1.0}


@pytest.mark.parametrize("sure, way", [(5.0, 1), (-5.0, -1)])
def test_the_chance_follows_how_sure_the_discriminator_is(sure, way):
    config = shapes.gan(augment_target=0.6, augment_images=80)
    params = jax.jit(lambda: gan.init(config, KEY))()
    last = params["discriminator"]["network"]["last"]
    last.update(kernel=0 * last["kernel"], bias=0 * last["bias"] + sure)
    state = programs.fresh(config, gan, params)
    state["memory"] = {"chance": jnp.float32(0.5)}
    step = jax.jit(functools.partial(gan.update, config))
    after, metrics = step(state, {"image": images()}, KEY, 0, np.float32(0))
    assert float(after["memory"]["chance"]) == pytest.approx(0.5 + way * 8 / 80)
    assert metrics["chance"] == after["memory"]["chance"]
    state["memory"] = {"chance": jnp.float32((1 + way) / 2)}  # an end, beyond which it does not go
    after, _ = step(state, {"image": images()}, KEY, 0, np.float32(0))
    assert float(after["memory"]["chance"]) == (1 + way) / 2


def test_without_a_target_nothing_is_kept():
    config = shapes.gan()
    assert gan.memory(config, None) == {}
    assert programs.saved(programs.fresh_shapes(shapes.gan(augment_target=0.6)))["memory"]


@pytest.mark.parametrize(
    "model, message",
    [
        ({"augment_target": 1.0}, "augment_target=1.0 must be from 0"),
        ({"augment_target": -0.1}, "augment_target=-0.1 must be from 0"),
        ({"augment_images": 0}, "augment_images=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(model, message):
    config = shapes.gan()
    config.model.update(model)
    with pytest.raises(UserError, match=message):
        families.check(config, SPEC)
