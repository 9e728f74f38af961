"""The families that judge: a classifier, clean and noisy, and a CLIP of images and names."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from research import data, defaults, families, recipes, trained
from research.errors import UserError
from research.evaluation import image_features
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


def fitted(config, batch, steps):
    """Parameters after some steps on one batch, and the scores of that batch."""
    family, optimizer, params = families.load(config.family), optax.adam(1e-2), started(config)

    @jax.jit
    def run(params):
        def step(state, index):
            params, moments = state
            loss = functools.partial(family.loss, config)
            key = jax.random.fold_in(jax.random.key(0), index)
            grads, _ = jax.grad(loss, has_aux=True)(params, batch, key, index)
            updates, moments = optimizer.update(grads, moments)
            return (optax.apply_updates(params, updates), moments), None

        state, _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))
        return state[0], family.score(config, state[0], batch, jax.random.key(0))

    params, scores = run(params)
    return params, {name: float(each["total"] / each["count"]) for name, each in scores.items()}


def applied(function, config):
    """A function of the family, compiled."""
    return jax.jit(functools.partial(function, config))


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """48 images of small fonts, each with its category and its name."""
    config = named(tmp_path_factory.mktemp("glyphs"))
    found = data.load(config.data, "train")
    rows = np.random.default_rng(0).permutation(len(found))[:48]
    return found.gather(rows)


@pytest.fixture(scope="module")
def told(batch):
    """A classifier that was shown one batch many times."""
    config = tiny("classifier", num_classes=26)
    return config, *fitted(config, batch, 200)


def test_a_classifier_learns_what_it_is_shown(told):
    config, _, scores = told
    assert scores["accuracy"] > 0.9 and scores["cross_entropy"] < 1
    kinds = classifier.score_kinds(config)
    assert kinds["accuracy"]["chance"] == 1 / 26 and kinds["cross_entropy"]["kind"] == "exact"
    assert {*kinds} == {*scores}


def test_features_are_what_the_logits_are_a_map_of(told, batch):
    config, params, _ = told
    images = jnp.asarray(batch["image"])
    features = applied(classifier.features, config)(params, images)
    assert features.shape == (48, 16) and features.dtype == jnp.float32
    logits = np.asarray(features) @ params["head"]["kernel"] + params["head"]["bias"]
    pixels = np.asarray(images, np.float32) * (2 / 255) - 1
    found = applied(classifier.logits, config)(params, pixels)
    np.testing.assert_allclose(found, logits, atol=1e-4)
    p = applied(classifier.probabilities, config)(params, images)
    np.testing.assert_allclose(p, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), atol=1e-5)


@pytest.mark.slow
def test_a_run_is_scored_draws_nothing_and_gives_features(tmp_path):
    """From config to score, and from its folder to what others are judged by."""
    config = tiny("classifier", tmp_path / "data", num_classes=18)
    config.data.label = "style"
    result = train(recipes.apply(config), tmp_path / "run")
    scores = result["scores"]
    assert scores["accuracy"]["value"] > 0.7 and scores["accuracy"]["chance"] == 1 / 18
    assert result["score"]["unit"] == "bits/image" and scores["cross_entropy"]["value"] < 1.5
    with pytest.raises(UserError, match="family 'classifier' draws no samples"):
        sample_run(tmp_path / "run", 1)
    images = data.load(config.data, "test").arrays["image"][:8]
    found = image_features.load(str(tmp_path / "run"))
    params = trained.load(tmp_path / "run")[1]
    expected = applied(classifier.features, config)(params, images)
    np.testing.assert_allclose(found.of(images), expected, atol=1e-5)


def test_a_family_that_only_judges_is_asked_for_no_samples():
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
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * draw.normal(size=leaf.shape), params)

    @jax.jit
    def guide(x, gamma):
        def log_probability(x):
            logits = classifier.logits(config, params, x, gamma)
            return jax.nn.log_softmax(logits)[:, 3].sum()

        return jax.grad(log_probability)(x)

    low, high = guide(x, jnp.full(4, -10.0)), guide(x, jnp.full(4, 4.0))
    assert low.shape == x.shape and jnp.abs(low).max() > 1e-4
    assert jnp.abs(low - high).max() > 1e-4


def test_a_noisy_classifier_sees_every_level_of_a_batch(noisy):
    config, params = noisy
    images = jnp.full((64, 8, 8, 1), 255, jnp.uint8)
    x, gamma = map(np.asarray, applied(classifier._seen, config)(images, jax.random.key(0)))
    steps = np.diff(np.sort(gamma))
    np.testing.assert_allclose(steps, 18.3 / 64, rtol=1e-3)
    np.testing.assert_allclose(x[gamma < -7], 1, atol=0.2)
    assert np.std(x[gamma > 3]) == pytest.approx(1, abs=0.1)
    batch = {"image": images, "label": jnp.zeros(64, jnp.int32), "mask": jnp.arange(64) < 16}
    found = applied(classifier.score, config)(params, batch, jax.random.key(0))
    bits = {name: float(each["total"] / each["count"]) for name, each in found.items()}
    assert bits == pytest.approx({"cross_entropy": np.log2(26), "accuracy": 1}, rel=1e-5)
    assert classifier.score_kinds(config)["accuracy"]["kind"] == "estimate"


INFO_NCE = jax.jit(clip.info_nce)


def test_info_nce_of_no_knowledge_is_the_logarithm_of_the_choices():
    """Five pairs, two of one name, and a row of padding."""
    text = jnp.array([[1], [2], [3], [4], [4], [0]])
    rows = jnp.array([1, 1, 1, 1, 1, 0])
    nats, right = INFO_NCE(jnp.zeros((6, 6)), text, rows)
    expected = np.log([5, 5, 5, 4, 4])  # the other of one name is no wrong answer
    np.testing.assert_allclose(nats[:, :5], [expected, expected], rtol=1e-6)
    assert right[:, 0].all() and not right[:, 1:5].any()
    known = 50 * (text == text.T)
    nats, right = INFO_NCE(known.astype(float), text, rows)
    np.testing.assert_allclose(nats[:, :5], 0, atol=1e-6)
    assert right[:, :5].all()


def test_both_directions_are_each_others_transpose():
    similarity = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    text, rows = np.arange(7)[:, None], np.ones(7)
    nats, _ = INFO_NCE(similarity, text, rows)
    turned, _ = INFO_NCE(similarity.T, text, rows)
    np.testing.assert_allclose(nats, turned[::-1], rtol=1e-6)
    log_p = similarity - np.log(np.exp(similarity).sum(1, keepdims=True))
    np.testing.assert_allclose(nats[0], -np.diagonal(log_p), rtol=1e-5)


@pytest.fixture(scope="module")
def pairs(batch):
    """A CLIP that was shown one batch many times: its config, parameters and scores."""
    config = named()
    return config, *fitted(config, batch, 300)


@pytest.mark.slow
def test_a_clip_learns_which_name_is_of_which_image(pairs, batch):
    config, params, scores = pairs
    assert scores["cross_entropy"] < np.log2(48) / 2
    assert scores["name_retrieval"] > 0.3 and scores["image_retrieval"] > 0.3
    kinds = clip.score_kinds(config)
    assert kinds["name_retrieval"]["unit"] == "share, among 16" and {*kinds} == {*scores}
    image = applied(clip.features, config)(params, batch["image"])
    text = applied(clip.text_features, config)(params, batch["text"])
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, rtol=1e-5)
    cosines = (np.asarray(image) * np.asarray(text)).sum(1)
    own = np.asarray(clip.clip_score(image, text))
    np.testing.assert_allclose(own, 2.5 * np.maximum(cosines, 0), atol=1e-5)
    assert own.mean() > np.asarray(clip.clip_score(image, text[::-1])).mean() + 0.2


def test_no_word_sees_the_padding(pairs):
    config, params, _ = pairs
    text = np.array([[5, 6, 7], [8, 0, 0]])
    of = applied(clip.text_features, config)
    short, long = of(params, text), of(params, np.pad(text, ((0, 0), (0, 9))))
    np.testing.assert_allclose(short, long, atol=1e-5)
    assert np.abs(short[0] - short[1]).max() > 1e-3


def test_the_scale_is_at_most_100(pairs):
    config, params, _ = pairs
    module, _ = clip.network(config)
    large = {**params, "log_scale": jnp.array(9.0)}
    run = jax.jit(lambda text: common.apply(module, large, None, text)[2])
    assert float(run(np.array([[5]]))) == pytest.approx(100)


@pytest.mark.parametrize(
    "config, changes, said",
    [
        (
            tiny("classifier", num_classes=25),
            {},
            "num_classes=25 must be 26, the classes of glyphs",
        ),
        (tiny("classifier", num_classes=26, image_shape=(4, 4, 1)), {}, r"must be \(8, 8, 1\) for"),
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
