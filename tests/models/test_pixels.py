"""Networks that draw a dimension after another: all images at once tell who sees whom."""

import functools
import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research.families import autoregressive
from research.models import common
from tests import shapes
from tests.layouts import QUICK

KEY = jax.random.key(0)
CONVOLUTIONS = ("pixelcnn", "gated_pixelcnn", "pixelrnn")
GREY, COLOUR = (2, 4, 1), (1, 2, 3)


def small(network, shape, **model):
    config = shapes.autoregressive(vocab=2, network=network, **model)
    config.model.image_shape = shape
    config.model.update({
        "decoder": dict(depth=1),
        "wavenet": dict(width=4, cycle=2),
    }.get(network, dict(width=24, first_window=3)))  # fmt: skip
    return config


@functools.lru_cache
def everything(network, shape, **model):
    """Of every image of two levels [2^L, L]: its logits [2^L, L, 2]."""
    config = small(network, shape, **model)
    length = int(np.prod(shape))
    images = np.array([*itertools.product(range(2), repeat=length)], np.int32)
    tokens = jnp.asarray(np.pad(images, ((0, 0), (1, 0))))[:, :-1]
    run = jax.jit(functools.partial(logits_of, config)).lower(params(config), tokens)
    return images, np.asarray(run.compile(compiler_options=QUICK)(params(config), tokens))


def params(config):
    """Away from their start, where the head is zero; drawn by numpy, which compiles nothing."""
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: autoregressive.init(config, KEY))
    return jax.tree.map(lambda x: np.float32(generator.normal(0, 0.5, x.shape)), shapes)


def logits_of(config, params, tokens):
    x, *_ = common.apply(autoregressive.network(config), params, tokens)
    return autoregressive.head(config).logits(config, params, x)


def influence(images, logits):
    """Whether dimension u, alone, ever moves what is predicted of t: [t, u]."""
    length = images.shape[1]
    table = logits.reshape(*(2,) * length, length, 2)
    return np.array([[
        np.any(np.take(table, 0, u)[..., t, :] != np.take(table, 1, u)[..., t, :])
        for u in range(length)] for t in range(length)
    ])  # fmt: skip


def seen(shape, reach):
    """What dimension t may see of u: all before it that `reach(row, column) of both` allows."""
    height, width, channels = shape
    places = [*itertools.product(range(height), range(width), range(channels))]
    return np.array(
        [[u < t and reach(places[t], places[u]) for u in range(len(places))]
         for t in range(len(places))]
    )  # fmt: skip


def cone(target, source):
    """Two layers of windows 3 wide: a row up, and as far aside as rows are climbed."""
    return source[1] - target[1] <= target[0] - source[0]


def any_place(target, source):
    return True


REACH = {"gated_pixelcnn": any_place, "pixelcnn": cone, "pixelrnn": cone, "decoder": any_place}
IMAGES = [(network, shape) for network in REACH for shape in (GREY, COLOUR)][:-1]


@pytest.mark.parametrize("network, shape", IMAGES)
def test_who_sees_whom(network, shape):
    """Exactly what comes before, but for the blind spot of PixelCNN and of rows."""
    images, logits = everything(network, shape)
    np.testing.assert_array_equal(influence(images, logits), seen(shape, REACH[network]))


@pytest.mark.parametrize("network, shape", [*IMAGES, ("wavenet", GREY)])
def test_probabilities_of_all_images_sum_to_one(network, shape):
    images, logits = everything(network, shape)
    log_p = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), images[..., None], -1)[
        ..., 0
    ].sum(1)
    assert np.exp(log_p.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert log_p.std() > 0.1
