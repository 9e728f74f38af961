"""The families that judge: a classifier, clean and noisy, and a CLIP of images and names."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import data, defaults, families, recipes, trained
from research.errors import UserError
from research.families import classifier, clip
from research.models import common
from research.sample import sample_run
from research.train import train

PLAIN = dict(width=16, depth=1, num_heads=2, patch_size=2, image_shape=(8, 8, 1))
FONTS = ("DejaVuSansDisplay", "STIXGeneralItalic", "DejaVuSerifDisplay")


def tiny(family, folder="data", **model):
    """A small config on glyphs of three small fonts at 8x8."""
    config = defaults.config(family, "glyphs", optimizer="adamw")
    config.recipe = "fixed"
    config.model.update(PLAIN | model)
    config.data.update(folder=str(folder), fonts=FONTS, resolution=8)
    config.train.update(steps=80, batch_size=32, learning_rate=5e-3, warmup_steps=4)
    config.evaluation.update(batch_size=16, examples=64)
    return config


def named(folder="data", **model):
    config = tiny("clip", folder)
    config.data.text = "words"
    config.model.update(dict(text_length=12, embedding=8))
    config.model.text_vocab_size = data.outline(config.data)["text"]["vocab_size"]
    config.model.update(model)
    return config


def started(config):
    family = families.load(config.family)
    return jax.jit(lambda key: family.init(config, key))(jax.random.key(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def styles(folder):
    """A classifier of styles that was trained for 80 steps: its folder and its result."""
    config = tiny("classifier", folder / "data", num_classes=18)
    config.data.label = "style"
    return folder / "run", train(recipes.apply(config), folder / "run")


def test_a_classifier_learns_styles(styles):
    _, result = styles
    scores = result["scores"]
    assert scores["accuracy"]["value"] > 0.7 and scores["accuracy"]["chance"] == 1 / 18
    assert result["score"]["unit"] == "bits/image" and result["score"]["kind"] == "exact"
    assert scores["cross_entropy"]["value"] < 1.5 < np.log2(18)


def test_features_are_what_the_logits_are_a_map_of(styles):
    config, params = trained.load(styles[0])
    images = data.load(config.data, "test").arrays["image"][:8]
    features = classifier.features(config, params, images)
    assert features.shape == (8, 16) and features.dtype == jnp.float32
    logits = features @ params["head"]["kernel"] + params["head"]["bias"]
    found = classifier.logits(config, params, classifier.pixels(jnp.asarray(images)))
    np.testing.assert_allclose(found, logits, atol=1e-5)
    p = classifier.probabilities(config, params, images)
    np.testing.assert_allclose(p, jax.nn.softmax(logits), atol=1e-6)


def test_a_family_that_only_judges_draws_nothing(styles):
    with pytest.raises(UserError, match="family 'classifier' draws no samples"):
        sample_run(styles[0], 1)
    config = tiny("classifier", num_classes=26)
    config.sampling.num = 8
    with pytest.raises(UserError, match="config.sampling.num=8 must be 0: family 'classifier'"):
        families.check(config, data.outline(config.data))


@pytest.fixture(scope="module")
def noisy():
    config = tiny("classifier", num_classes=26, noisy=True)
    return config, started(config)


def test_a_noisy_classifier_has_a_gradient_by_the_image(noisy):
    """What guides: it begins at zero, as the logits do, and goes by the level once they do not."""
    config, params = noisy
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)  # fmt: skip  # noqa: E501

    @jax.jit
    def guide(x, gamma):
        return jax.grad(lambda x: jax.nn.log_softmax(classifier.logits(config, params, x, gamma))[:, 3].sum())(x)  # fmt: skip  # noqa: E501

    low, high = guide(x, jnp.full(4, -10.0)), guide(x, jnp.full(4, 4.0))
    assert low.shape == x.shape and jnp.abs(low).max() > 1e-4
    assert jnp.abs(low - high).max() > 1e-4


def test_a_noisy_classifier_sees_every_level_of_a_batch(noisy):
    config, params = noisy
    images = jnp.full((64, 8, 8, 1), 255, jnp.uint8)
    x, gamma = classifier._seen(config, images, jax.random.key(0))
    steps = np.diff(np.sort(gamma))
    np.testing.assert_allclose(steps, 18.3 / 64, rtol=1e-3)
    clean = jax.nn.sigmoid(-gamma) > 0.999
    np.testing.assert_allclose(x[clean], 1, atol=0.2)
    assert float(jnp.std(x[gamma > 3])) == pytest.approx(1, abs=0.1)
    batch = {"image": images, "label": jnp.zeros(64, jnp.int32), "mask": jnp.arange(64) < 16}
    found = classifier.score(config, params, batch, jax.random.key(0))
    bits = {name: float(each["total"] / each["count"]) for name, each in found.items()}
    assert bits == pytest.approx({"cross_entropy": np.log2(26), "accuracy": 1}, rel=1e-5)
    assert classifier.score_kinds(config)["accuracy"]["kind"] == "estimate"


def test_info_nce_of_no_knowledge_is_the_logarithm_of_the_choices():
    """Five pairs, two of one name, and a row of padding."""
    text = jnp.array([[1], [2], [3], [4], [4], [0]])
    rows = jnp.array([1, 1, 1, 1, 1, 0])
    nats, right = clip.info_nce(jnp.zeros((6, 6)), text, rows)
    expected = np.log([5, 5, 5, 4, 4])  # the other of one name is no wrong answer
    np.testing.assert_allclose(nats[:, :5], [expected, expected], rtol=1e-6)
    assert right[:, 0].all() and not right[:, 1:5].any()
    known = 50 * (text == text.T)
    nats, right = clip.info_nce(known.astype(float), text, rows)
    np.testing.assert_allclose(nats[:, :5], 0, atol=1e-6)
    assert right[:, :5].all()


def test_both_directions_are_each_others_transpose():
    similarity = jax.random.normal(jax.random.key(0), (7, 7))
    text, rows = jnp.arange(7)[:, None], jnp.ones(7)
    nats, _ = clip.info_nce(similarity, text, rows)
    turned, _ = clip.info_nce(similarity.T, text, rows)
    np.testing.assert_allclose(nats, turned[::-1], rtol=1e-6)
    log_p = jax.nn.log_softmax(similarity)
    np.testing.assert_allclose(nats[0], -jnp.diagonal(log_p), rtol=1e-5)


@pytest.fixture(scope="module")
def pairs(folder):
    """A CLIP of names that was trained for 80 steps: its config, parameters and result."""
    config = named(folder / "data")
    result = train(recipes.apply(config), folder / "clip")
    return (*trained.load(folder / "clip"), result)


def test_a_clip_finds_names_of_images_better_than_chance(pairs):
    config, params, result = pairs
    scores = result["scores"]
    assert scores["cross_entropy"]["value"] < np.log2(16) - 0.3
    for name in ("name_retrieval", "image_retrieval"):
        assert scores[name]["value"] > 2 * scores[name]["chance"] == 2 / 16
        assert scores[name]["unit"] == "share, among 16"
    source = data.load(config.data, "train")
    batch = source.gather(np.arange(32))
    image = clip.features(config, params, batch["image"])
    text = clip.text_features(config, params, batch["text"])
    np.testing.assert_allclose(jnp.linalg.norm(image, axis=1), 1, rtol=1e-5)
    own = clip.clip_score(image, text)
    np.testing.assert_allclose(own, 2.5 * np.maximum((image * text).sum(1), 0), rtol=1e-5)
    assert own.mean() > clip.clip_score(image, text[::-1]).mean()


def test_no_word_sees_the_padding(pairs):
    config, params, _ = pairs
    text = jnp.array([[5, 6, 7], [8, 0, 0]])
    short = clip.text_features(config, params, text)
    long = clip.text_features(config, params, jnp.pad(text, ((0, 0), (0, 9))))
    np.testing.assert_allclose(short, long, atol=1e-5)
    module, _ = clip.network(config)
    assert jnp.abs(short[0] - short[1]).max() > 1e-3
    _, _, scale, _ = common.apply(module, {**params, "log_scale": jnp.array(9.0)}, None, text)
    assert float(scale) == pytest.approx(100)


@pytest.mark.parametrize(
    "config, changes, said",
    [
        (
            tiny("classifier", num_classes=25),
            {},
            "num_classes=25 must be 26, the classes of glyphs",
        ),
        (tiny("classifier", num_classes=26, image_shape=(9, 9, 1)), {}, r"must be \(8, 8, 1\) for"),
        (tiny("classifier", num_classes=26, patch_size=3), {}, "patch_size=3 does not divide"),
        (tiny("classifier", num_classes=26, width=18), {}, "width=18 must be a multiple of 4"),
        (tiny("classifier", num_classes=26, gamma_min=6.0), {}, "gamma_min=6.0 must be below"),
        (tiny("classifier", num_classes=26, noisy=True, zero_outputs=True), {}, "never learns"),
        (tiny("classifier", num_classes=1), {"num_classes": 1}, "has one class: nothing to tell"),
        (tiny("classifier", num_classes=26), {"discrete": False}, "discrete=True must be False"),
        (named(embedding=0), {}, "embedding=0 must be at least 1"),
        (named(text_length=5), {}, "text_length=5 must be 12 for glyphs"),
    ],
)
def test_judges_that_cannot_be_built(config, changes, said):
    with pytest.raises(UserError, match=said) as error:
        families.check(config, data.outline(config.data) | changes)
    assert "\n" not in str(error.value)


def test_data_that_no_judge_reads():
    config = tiny("classifier", num_classes=26)
    config.data = data.default("markov")
    with pytest.raises(UserError, match="'markov' gives tokens; family 'classifier' reads images"):
        families.check(config, data.outline(config.data))
    config = named()
    config.data.text = "none"
    with pytest.raises(UserError, match="without a text, which family 'clip' reads; glyphs has"):
        families.check(config, data.outline(config.data))
