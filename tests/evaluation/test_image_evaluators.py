"""What judges images, by a pinned recipe: from samples to scores, and what is refused."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from research import data, defaults, evaluation, recipes
from research.errors import UserError
from research.evaluation import image_features, image_samples
from research.evaluation.image_samples import Recipe
from research.run import files
from tests.scaling.planted import result, write_study

JUDGES = ("frechet", "kernel_distance", "inception_score", "precision_recall", "nearest")
QUARTERS = "tests.toys.four_features"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A family that copies glyphs of two small fonts at 8x8, with their names."""
    found = defaults.config("tests.toys.copycat", "glyphs")
    found.recipe = "fixed"
    found.data.update(
        folder=str(tmp_path_factory.mktemp("glyphs")), resolution=8, text="words",
        fonts=("DejaVuSansDisplay", "STIXGeneralItalic"),
    )  # fmt: skip
    found.train.update(steps=1, batch_size=8, learning_rate=0.1, warmup_steps=0)
    found.evaluation.update(evaluators=JUDGES, image_recipe="tiny", features=QUARTERS)
    data.fingerprint(found.data)
    return recipes.apply(found)


@pytest.fixture(autouse=True)
def tiny_recipes(monkeypatch):
    monkeypatch.setitem(image_samples.RECIPES, "tiny", Recipe(64, batch=24))
    pinned = (("sampler", "ddim"),)
    monkeypatch.setitem(image_samples.RECIPES, "pinned", Recipe(64, sampling=pinned))
    image_samples._DRAWN.clear()


@pytest.fixture
def changed(config):
    def change(**keys):
        own = config.copy_and_resolve_references()
        for key, value in keys.items():
            section, _, name = key.partition("__")
            own[section][name] = value
        return own

    return change


PARAMS = {"scale": np.ones(())}


def test_a_copying_family_is_found_out_and_noise_is_far(config, changed):
    spec = data.outline(config.data)
    evaluation.check(config, spec)
    copied = evaluation.scores(config, PARAMS)
    noise = evaluation.scores(changed(model__share=0.0), PARAMS)
    assert copied["nearest_copies"]["value"] > 0.9 > 0.5 > noise["nearest_copies"]["value"]
    assert copied["nearest_pixels"]["value"] > 0.9 and noise["nearest_pixels"]["value"] < 0.1
    assert copied["frechet"]["value"] < noise["frechet"]["value"] / 5
    assert copied["kernel_distance"]["interval"][0] <= 0 < noise["kernel_distance"]["interval"][0]
    assert noise["precision"]["value"] < 0.2 < copied["precision"]["value"]
    for name in ("frechet_floor", "kernel_distance_floor", "recall_held_out"):
        assert copied[name]["value"] == noise[name]["value"]
    (signature,) = {each["signature"] for each in copied.values()}
    assert signature.startswith("recipe:tiny|data:") and "|features:" in signature
    assert all(each["examples"] for each in copied.values())


def test_one_recipe_draws_the_same_images_for_all_evaluators_in_whole_batches(config, monkeypatch):
    from tests.toys import copycat

    asked, sample = [], copycat.sample
    monkeypatch.setattr(copycat, "sample", lambda c, p, k, num, **g: asked.append(num) or sample(c, p, k, num, **g))  # fmt: skip  # noqa: E501
    first = image_samples.drawn(config, PARAMS)
    assert len(first) == 64 and asked == [24, 24, 24]
    assert image_samples.drawn(config, PARAMS) is first and len(asked) == 3
    image_samples.drawn(config, {"scale": np.zeros(())})  # another network
    assert len(asked) == 6
    image_samples._DRAWN.clear()
    np.testing.assert_array_equal(image_samples.drawn(config, PARAMS), first)


def test_labels_are_as_often_as_in_the_data(config, changed, monkeypatch):
    from tests.toys import copycat

    given = []
    monkeypatch.setattr(
        copycat, "sample",
        lambda c, p, k, num, label=None: given.append(label) or np.zeros((num, 8, 8, 1), np.uint8),
    )  # fmt: skip
    image_samples.drawn(changed(model__num_classes=26), PARAMS)
    labels = np.concatenate(given)[:64]
    counts = np.bincount(data.load(config.data, "train").arrays["label"], minlength=26)
    assert (
        counts[labels].min() > 0
    )  # a uniform draw would have asked for classes that are not there
    top = counts.argmax()
    assert np.mean(labels == top) == pytest.approx(counts[top] / counts.sum(), abs=0.2)


def test_the_reference_is_all_training_data_and_the_held_out_none_of_it(config):
    real, held = image_samples.reference(config), image_samples.held_out(config)
    assert len(real) == len(data.load(config.data, "train"))
    assert not {each.tobytes() for each in real} >= {each.tobytes() for each in held}
    assert len(held) == 64 == len({each.tobytes() for each in held})


def test_clip_score_is_of_the_images_that_were_asked_for(changed, monkeypatch):
    """By directions that know which image belongs to which name."""
    own = changed(evaluation__evaluators=("clip_score",))
    source = data.load(own.data, "validation")
    known = source.gather(np.arange(len(source)))
    first = {}
    for text in known["text"]:
        first.setdefault(text.tobytes(), len(first))
    of = {
        i.tobytes(): first[t.tobytes()] for i, t in zip(known["image"], known["text"], strict=True)
    }
    eye = np.eye(len(first))
    features = image_features.Features(
        lambda images: eye[[of[each.tobytes()] for each in images]], (8, 8, 1), "known",
        directions=lambda texts: eye[[first[each.tobytes()] for each in texts]],
        text=data.outline(own.data)["text"],
    )  # fmt: skip
    monkeypatch.setattr(image_features, "load", lambda name: features)
    evaluation.check(own, data.outline(own.data))
    found = evaluation.scores(own, PARAMS)
    assert found["clip_score"]["value"] == found["clip_score_real"]["value"] == 2.5
    assert found["clip_retrieval"]["value"] == 1
    own.data.text = "none"
    with pytest.raises(UserError, match="those of glyphs are None"):
        evaluation.check(own, data.outline(own.data))


def classifier(**changes):
    config = defaults.config("classifier", "glyphs")
    model = dict(image_shape=(8, 8, 1), num_classes=26, width=8, depth=1, num_heads=1)
    config.model.update(model | changes)
    return config


@pytest.fixture(scope="module")
def network():
    """A classifier as it begins, and its parameters."""
    from research.families import classifier as family

    config = classifier()
    import jax

    return config, jax.jit(lambda key: family.init(config, key))(jax.random.key(0))


def test_pinned_weights_give_the_same_features_again(network, tmp_path):
    config, params = network
    image_features.write(tmp_path / "kept.npz", config, params)
    read, half = image_features.read(tmp_path / "kept.npz")
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    first, again = (image_features.of_network(*each) for each in (network, (read, half)))
    assert first.of(images).shape == (300, 8) and first.shape == (8, 8, 1)
    np.testing.assert_allclose(again.of(images), first.of(images), atol=5e-3)
    assert again.probabilities is not None
    np.testing.assert_allclose(again.probabilities(images).sum(1), 1, atol=1e-6)
    assert again.digest == image_features.of_network(read, half).digest != first.digest
    half["head"]["bias"][0] += 1e-3
    changed = image_features.of_network(read, half).digest
    read.model.num_heads = 2
    assert len({again.digest, changed, image_features.of_network(read, half).digest}) == 3


@pytest.mark.parametrize(
    "keys, said",
    [
        (dict(evaluation__features="pixles"), "did you mean 'pixels'"),
        (dict(evaluation__features="runs/none"), "'runs/none' is not pixels, glyphs, the folder"),
        (dict(evaluation__features="tests.no_such"), "No module named 'tests.no_such'"),
        (dict(evaluation__features="tests.toys.copycat"), "lacks features, SHAPE, IDENTITY"),
        (dict(evaluation__features="glyphs"), r"images \(16, 16, 1\); those of glyphs are \(8"),
        (dict(evaluation__image_recipe="images_5k"), "did you mean 'images_512'|is not one of"),
        (dict(evaluation__image_recipe="pinned"), "sets config.sampling.sampler, which family"),
        (dict(evaluation__features="pixels"), "64 images, too few .* 64 features.* valid: 160"),
        (dict(evaluation__features="pixels", evaluation__evaluators=("inception_score",)),
         "know no classes"),
        (dict(evaluation__evaluators=("clip_score",)), "know no text"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_before_anything_is_drawn(changed, keys, said):
    own = changed(**keys)
    with pytest.raises(UserError, match=said) as error:
        evaluation.check(own, data.outline(own.data))
    assert "\n" not in str(error.value)


def test_runs_without_images_of_the_data_are_refused(config, changed, monkeypatch):
    from tests.toys import copycat, four_features

    judge = changed(evaluation__evaluators=("kernel_distance",))
    for shape, kind in (((8, 8, 1), float), ((4, 4, 1), np.uint8)):
        image_samples._DRAWN.clear()
        other = np.zeros((24, *shape), kind)
        monkeypatch.setattr(copycat, "sample", lambda c, p, k, num, other=other: other)
        with pytest.raises(UserError, match=r"expected 8-bit images \[8, 8, 1\]"):
            evaluation.scores(judge, PARAMS)
    monkeypatch.undo()
    monkeypatch.setitem(image_samples.RECIPES, "tiny", Recipe(64, batch=24))
    nan = np.full((1, 4), np.nan)
    monkeypatch.setattr(four_features, "features", lambda images: nan.repeat(len(images), 0))
    with pytest.raises(UserError, match="those of 64 of 64 drawn images are not finite"):
        evaluation.scores(judge, PARAMS)
    floats = {**data.outline(config.data), "discrete": False}
    with pytest.raises(UserError, match="judges 8-bit images; config.data.name='glyphs' has none"):
        evaluation.check(judge, floats)
    with pytest.raises(UserError, match="'kernel_distance': family 'classifier' draws no samples"):
        image_samples.check(ConfigDict({**judge, "family": "classifier"}), floats | {"discrete": True}, "kernel_distance")  # fmt: skip  # noqa: E501


def test_a_run_without_features_names_the_families_that_have_them(config):
    with pytest.raises(UserError, match="family 'diffusion' gives no features; .*'classifier'"):
        image_features.of_network(defaults.config("diffusion", "glyphs"), {})


def test_scores_of_two_signatures_do_not_go_on_one_axis(tmp_path):
    rows = []
    for number, signature in enumerate(("recipe:a", "recipe:a", "recipe:b")):
        content = result(10.0 ** (5 + number), 1e9, 3.0 - number, 1e17)
        score = {**content["score"], "unit": "distance", "better": "lower", "signature": signature}
        rows.append({**content, "scores": {"bits": content["score"], "frechet": score}})
    folder = write_study(tmp_path / "study", rows)
    assert len(files.read_runs(folder).trials) == 3  # by the main score, which has none
    with pytest.raises(
        UserError, match="not go on one axis: measured as 'recipe:a' and 'recipe:b'"
    ):
        files.read_runs(folder, "frechet")
    last = max(folder.glob("*/result.json"))
    last.write_text(json.dumps({**json.loads(last.read_text()), "part": "other"}))
    assert len(files.read_runs(folder, "frechet").trials) == 3  # each part has its own axis
