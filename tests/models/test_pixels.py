"""Networks that draw a dimension after another: all images at once tell who sees whom."""

import functools
import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import data, families, parts
from research.errors import UserError
from research.families import autoregressive
from research.models import common, pixels, wavenet
from research.models.attention import Where
from research.parts import Machine
from tests import shapes
from tests.layouts import QUICK

KEY = jax.random.key(0)
CONVOLUTIONS = ("pixelcnn", "gated_pixelcnn", "pixelrnn")
GREY, COLOUR = (2, 4, 1), (1, 2, 3)


def small(network, shape, **model):
    config = shapes.autoregressive(vocab=2, network=network, **model)
    config.model.image_shape = shape
    sizes = {"decoder": dict(depth=1), "wavenet": dict(width=4, cycle=2)}
    sizes["patches"] = dict(depth=1, patch_tokens=2)
    config.model.update(sizes.get(network, dict(width=24, first_window=3)) | model)
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
    """Whether dimension u, alone, ever moves what is predicted of t: [t, u].

    Some convolutions round an image by where it stands in the batch, by 2e-5 here.
    """
    length = images.shape[1]
    table = logits.reshape(*(2,) * length, length, 2)
    return np.array([[
        np.any(np.abs(np.take(table, 0, u) - np.take(table, 1, u))[..., t, :] > 1e-3)
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
REACH["patches"] = any_place
IMAGES = [*itertools.product(CONVOLUTIONS, [GREY, COLOUR]), ("decoder", GREY), ("patches", GREY)]


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


@pytest.mark.parametrize("model", [dict(), dict(taps=3, cycle=1, cycles=2)], ids=str)
def test_wavenet_sees_its_receptive_field(model):
    """1 + (taps - 1) x the sum of distances, in positions read, so in dimensions before one."""
    images, logits = everything("wavenet", GREY, **model)
    of = dict(taps=2, cycle=2, cycles=1) | model
    field = 1 + (of["taps"] - 1) * (2 ** of["cycle"] - 1) * of["cycles"]
    assert wavenet.receptive_field(SimpleNamespace(**of)) == field < 8
    back = np.subtract.outer(np.arange(8), np.arange(8))
    np.testing.assert_array_equal(influence(images, logits), (back > 0) & (back <= field))


def test_wavenet_goes_on_from_its_cache():
    """Three positions at once, then one at a time, beyond what the first layers keep."""
    config = small("wavenet", GREY)
    given, tokens = params(config), jax.random.randint(KEY, (3, 8), 0, 2)
    run = jax.jit(functools.partial(common.apply, autoregressive.network(config)))
    expected, _, nothing = run(given, tokens)
    assert nothing is None
    cache, rows = wavenet.empty_cache(config.model, config.hardware, 3, 8), []
    for start, end in ((0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8)):
        found, _, cache = run(given, tokens[:, start:end], Where(jnp.arange(start, end)), cache)
        rows.append(found)
    np.testing.assert_allclose(np.concatenate(rows, 1), expected, atol=1e-5)


@pytest.mark.parametrize("network", ["gated_pixelcnn", "decoder", "patches"])
def test_a_network_is_given_the_class(network):
    """It moves what is predicted everywhere, and each class has a distribution of its own."""
    shape, classes = (1, 2, 1), 3  # more than there are levels
    images = np.array([*itertools.product(range(2), repeat=2)], np.uint8)
    config = small(network, shape, num_classes=classes)
    batch = {
        "image": np.tile(images * 255, (classes, 1)).reshape(-1, *shape),
        "label": np.repeat(np.arange(classes), len(images)).astype(np.int32),
    }

    @jax.jit
    def run(params, batch):
        tokens = autoregressive.tokens_of(config, batch)
        return autoregressive.cross_entropy(config, params, tokens)[0]

    nats = np.asarray(run(params(config), batch)).reshape(classes, 4, 2)
    np.testing.assert_allclose(np.exp(-nats.sum(-1)).sum(-1), 1, atol=1e-5)
    for one, other in itertools.combinations(nats, 2):
        assert np.all(np.abs(one - other).max(0) > 1e-3)


def test_an_image_is_drawn_dimension_by_dimension():
    """Cold, each is the likeliest after those before; black and white of two levels."""
    config = small("pixelcnn", GREY)
    config.sampling.temperature = 0.0
    drawn = autoregressive.sample(config, params(config), KEY, 3)
    assert drawn.shape == (3, *GREY) and drawn.dtype == np.uint8 and {*drawn.flat} == {0, 255}
    images, logits = everything("pixelcnn", GREY)
    (row,) = np.flatnonzero((images == drawn[0].reshape(-1) // 255).all(1))
    np.testing.assert_array_equal(logits[row].argmax(-1), images[row])


def test_a_head_of_zeros_is_eight_bits_a_dimension():
    config = small("pixelcnn", COLOUR)
    config.model.vocab_size = 256
    image = np.arange(12, dtype=np.uint8).reshape(2, *COLOUR)
    batch = {"image": image, "mask": np.array([1.0, 0.0], np.float32)}
    given = params(config)
    given["head"] *= 0
    score = jax.jit(functools.partial(autoregressive.score, config))
    bits = score(given, batch, KEY)["likelihood"]
    assert float(bits["count"]) == 6 and float(bits["total"]) == pytest.approx(48, abs=1e-4)
    assert autoregressive.score_kinds(config)["likelihood"]["unit"] == "bits/dim"
    config.model.vocab_size = 16
    unit = autoregressive.score_kinds(config)["likelihood"]["unit"]
    assert unit == "bits/dim of 16 levels"


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_levels_are_cut_evenly_and_fill_the_range(levels):
    model = SimpleNamespace(vocab_size=levels, num_classes=0, image_shape=(16, 16, 1), levels=256)
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    tokens = np.asarray(pixels.tokens(model, {"image": image}))
    assert tokens[0, 0] == 0
    np.testing.assert_array_equal(np.bincount(tokens[0, 1:]), [256 // levels] * levels)
    back = pixels.images(model, tokens[:, 1:])
    assert back.min() == 0 and back.max() == 255 and back.shape == image.shape
    assert levels < 256 or np.array_equal(back, image)


@pytest.mark.parametrize("network", [*REACH, "wavenet"])
def test_activations_have_their_shapes(network):
    """The stream of images is of pixels, or of what else the last layer hands on."""
    config = small(network, GREY)
    batch = {"image": jnp.zeros((3, *GREY), jnp.uint8)}
    read = functools.partial(autoregressive.activations, config)
    found = jax.eval_shape(read, params(config), batch, KEY)
    assert found["stream"].shape[0] == 3 and found["output"].shape == (3, 8, 2)


GLYPHS = dict(name="glyphs", shape=(16, 16, 1), num_classes=30, discrete=True, levels=256)


@pytest.mark.parametrize(
    "network, model, spec, message",
    [
        ("pixelcnn", dict(image_shape=()), GLYPHS, r"reads images: .*image_shape=\(\) must be"),
        ("pixelcnn", dict(width=7), GLYPHS, "width=7 must be a multiple of 2.* nearest valid: 8"),
        ("pixelrnn", dict(depth=0), GLYPHS, "depth=0 must be at least 1"),
        ("pixelcnn", dict(first_window=4), GLYPHS, "first_window=4 must be odd and at least 3"),
        ("gated_pixelcnn", dict(window=0), GLYPHS, "window=0 must be odd and at least 1"),
        ("wavenet", dict(num_classes=30), GLYPHS, "num_classes=30 must be 0: network 'wavenet'"),
        ("patches", dict(patch_tokens=7), GLYPHS, "must divide the 256 tokens .*valid: 8"),
        ("patches", dict(local_depth=0), GLYPHS, "local_depth=0 must be at least 1"),
        ("patches", dict(local_width=12), GLYPHS, "a multiple of the 8 features of a head"),
        ("wavenet", dict(taps=1), GLYPHS, "taps=1 must be at least 2"),
        ("decoder", dict(image_shape=()), GLYPHS, r"image_shape=\(\) must be \(height, width, ch"),
        (
            "decoder",
            dict(positions="learned", max_length=100),
            GLYPHS,
            "shorter than the dimensions of an image, 256",
        ),
        ("decoder", dict(image_shape=(8, 8, 1)), GLYPHS, r"must be \(16, 16, 1\) for glyphs"),
        ("decoder", dict(levels=2), GLYPHS, "levels=2 must be 256 for glyphs"),
        ("decoder", dict(vocab_size=1), GLYPHS, "vocab_size=1: images have 2 to 256 levels"),
        ("decoder", dict(num_classes=3), GLYPHS, "num_classes=3 must be 0 or 30, the classes of"),
        ("decoder", {}, GLYPHS | dict(discrete=False), "gives images of floats.* reads those of"),
        ("decoder", {}, dict(name="markov", vocab_size=2), r"must be \(\): markov gives no image"),
    ],
)
def test_what_does_not_fit_is_one_line(network, model, spec, message):
    config = small(network, (16, 16, 1))
    config.model.update(model)
    config.data = data.default(spec["name"])
    with pytest.raises(UserError, match=message) as caught:
        families.check(config, spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key, value", [("remat", "full"), ("loss_chunks", 2), ("mesh.stage", 2)], ids=str
)
def test_what_only_transformers_do_is_refused(key, value):
    config = small("wavenet", GREY)
    config.hardware.update_from_flattened_dict({key: value})
    machine = Machine(dict(config.hardware.mesh), "cpu", lambda: 8)
    with pytest.raises(UserError, match=f"config.hardware.{key}={value}: network 'wavenet' has"):
        parts.check_hardware(autoregressive, config, machine)
