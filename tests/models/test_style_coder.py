"""Modulated convolutions against kernels of each image's own, and networks of any size."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import defaults, families
from research.errors import UserError
from research.families import gan
from research.models import style_coder
from tests import shapes

KEY = jax.random.key(0)
SPEC = {"shape": (8, 8, 1), "num_classes": 4, "discrete": False, "levels": 0}


def layer(demodulated=True, features=5):
    return style_coder.Modulated(features, 3, jnp.float32, demodulated)


def started(module, x, style):
    """Parameters with kernels and scales that are far from even."""
    params = shapes.init(module, KEY, x, style)
    generator = np.random.default_rng(1)
    return jax.tree.map(lambda p: jnp.asarray(generator.normal(size=p.shape), jnp.float32), params)


def inputs(rows=3, width=4, style=6):
    generator = np.random.default_rng(0)
    x, w = generator.normal(size=(rows, 6, 6, width)), generator.normal(size=(rows, style))
    return jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)


@pytest.mark.parametrize("demodulated", [True, False])
def test_scaled_ends_are_a_kernel_for_each_image(demodulated):
    """Karras et al. 2020, equations 1 and 3, image by image."""
    (x, style), module = inputs(), layer(demodulated)
    params = started(module, x, style)
    found = shapes.apply(module, params, x, style)
    scale = 1 + style @ params["scale"]["kernel"] + params["scale"]["bias"]
    for row in range(len(x)):
        kernel = params["kernel"] * scale[row][:, None]
        if demodulated:
            kernel = kernel / jnp.sqrt(jnp.square(kernel).sum((0, 1, 2)) + 1e-8)
            np.testing.assert_allclose(jnp.square(kernel).sum((0, 1, 2)), 1, rtol=1e-5)
        one = jax.lax.conv_general_dilated(
            x[row : row + 1], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        np.testing.assert_allclose(found[row], one[0] + params["bias"], rtol=2e-4, atol=2e-4)


def test_an_even_style_is_a_plain_convolution():
    (x, style), module = inputs(), layer(False)
    params = started(module, x, style)
    params["scale"] = jax.tree.map(jnp.zeros_like, params["scale"])
    plain = jax.lax.conv_general_dilated(
        x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = shapes.apply(module, params, x, style)
    np.testing.assert_allclose(found, plain + params["bias"], rtol=1e-4, atol=1e-4)


def test_demodulated_outputs_have_unit_variance_whatever_the_style():
    """Of independent inputs of variance 1, away from the border (their section 2.2)."""
    x = jax.random.normal(KEY, (2, 64, 64, 4))
    _, style = inputs(2)
    module = layer()
    params = started(module, x, 30 * style)
    params["bias"] = jnp.zeros_like(params["bias"])
    found = shapes.apply(module, params, x, 30 * style)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(found.std((1, 2)), 1, rtol=0.08)


def config_of(**model):
    config = shapes.gan(network="style_coder", style_width=8, norm_groups=4, **model)
    return config


def test_a_generator_draws_and_its_judge_sees(data_folder):
    config = config_of()
    params = jax.jit(lambda: gan.init(config, KEY))()
    x = gan.sample(config, params, KEY, 3)
    assert x.shape == (3, 8, 8, 1) and np.isfinite(x).all() and x.std() > 0
    assert gan.logits(config, params, jnp.asarray(x)).shape == (3,)
    kernels = params["generator"]["network"]
    assert {"conv_0_0", "conv_1_0", "image_0", "image_1", "constant"} <= set(kernels)
    del data_folder


def test_classes_have_styles_of_their_own():
    config = config_of(num_classes=4)
    params = jax.jit(lambda: gan.init(config, KEY))()
    one, other = (gan.sample(config, params, KEY, 2, np.full(2, each)) for each in (0, 1))
    assert (one != other).any()


def test_the_length_of_a_latent_says_nothing():
    model = FrozenConfigDict(config_of().model)
    _, synthesis = style_coder.build(model, FrozenConfigDict(config_of().hardware), 1, 1)
    z = jax.random.normal(KEY, (2, 1, 1, 4))
    params = shapes.init(synthesis, KEY, z)
    found = [shapes.apply(synthesis, params, each) for each in (z, 3 * z)]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model, message",
    [
        ({"style_width": 0}, "style_width=0 must be at least 1"),
        ({"style_depth": 0}, "style_depth=0 must be at least 1"),
        ({"width_multiples": (1, 2, 4, 8, 16)}, "16 does not divide 8x8"),
    ],
)
def test_what_cannot_be_is_refused(model, message):
    config = config_of()
    config.model.update(model)
    with pytest.raises(UserError, match=message):
        families.check(config, SPEC)
    assert defaults.config("gan", "glyphs", network="style_coder").model.style_depth == 2
