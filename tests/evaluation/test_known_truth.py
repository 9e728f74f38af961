"""What is drawn against the true distribution: reverse cross-entropy, and the coverage of modes."""

import sys
import types

import numpy as np
import pytest

from research import data, defaults, evaluation, failures, recipes
from research.data.sources import gaussian_mixture, hidden_markov, ising, markov, modes
from research.errors import UserError
from research.evaluation import (
    image_samples,
    intervals,
    mode_coverage,
    reverse_cross_entropy,
)
from research.evaluation.image_samples import Recipe

PARAMS = {"scale": np.ones(())}


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch):
    monkeypatch.setitem(image_samples.RECIPES, "tiny", Recipe(600, batch=600))
    image_samples._DRAWN.clear()


def build(source, folder, family="tests.toys.copycat", **settings):
    config = defaults.config(family, source)
    config.recipe = "fixed"
    config.data.update(settings, folder=str(folder))
    config.train.update(steps=1, batch_size=8, learning_rate=0.1, warmup_steps=0)
    evaluators = ("mode_coverage",) if source == "modes" else ("reverse_cross_entropy",)
    config.evaluation.update(evaluators=evaluators, image_recipe="tiny", examples=2_000)
    return recipes.apply(config)


@pytest.mark.parametrize("name", ["ising", "gaussian_field", "gaussian_mixture"])
def test_true_images_cost_the_entropy_and_noise_costs_more(name, tmp_path):
    config = build(name, tmp_path, images=2_000, validation_images=500)
    evaluation.check(config, data.outline(config.data))
    found = evaluation.scores(config, PARAMS)
    low, high = found["reverse_cross_entropy"]["interval"]
    value, floor = found["reverse_cross_entropy"]["value"], found["reverse_floor"]["value"]
    assert abs(value - floor) < high - low  # two half intervals
    assert found["impossible"]["value"] == 0
    assert floor == data.load(config.data, "validation").floor["value"]
    config.model.share = 0.0
    noise = evaluation.scores(config, PARAMS)
    if name == "ising":  # pixels of 256 levels, of which two are spins
        assert noise["impossible"]["value"] == 1 and np.isnan(
            noise["reverse_cross_entropy"]["value"]
        )
    else:
        assert noise["reverse_cross_entropy"]["value"] > value + 100


def drawer(monkeypatch, draw):
    """The path of a family that draws tokens so."""
    module = types.ModuleType("shown.drawer")
    source = {k: v for k, v in vars(sys.modules["tests.toys.copycat"]).items() if k != "sample"}
    vars(module).update(source, sample=lambda config, params, key, num: draw(config, num))
    monkeypatch.setitem(sys.modules, "shown.drawer", module)
    return "shown.drawer"


def test_texts_of_another_model_cost_what_the_sum_over_all_of_them_says(tmp_path, monkeypatch):
    import itertools

    import tests.toys.copycat  # noqa: F401

    rng = np.random.default_rng(0)

    def uniform(config, num):
        return np.pad(rng.integers(1, 5, (num, config.data.length - 1)), ((0, 0), (1, 0)))

    monkeypatch.setattr(reverse_cross_entropy, "SAMPLES", 2_000)
    small = dict(length=5, vocab_size=5, states=3, concentration=0.5, validation_tokens=20_000)
    config = build("hidden_markov", tmp_path, drawer(monkeypatch, uniform), tokens=500, **small)
    evaluation.check(config, data.outline(config.data))
    found = evaluation.scores(config, PARAMS)
    every = np.array([(0, *each) for each in itertools.product(range(1, 5), repeat=4)])
    bits = -hidden_markov.log_probability(config.data, every) / (4 * np.log(2))
    for name, expected in (
        ("reverse_cross_entropy", bits.mean()),
        ("reverse_floor", 2.0 ** (-4 * bits) @ bits),
    ):
        low, high = found[name]["interval"]
        assert abs(found[name]["value"] - expected) < high - low < 0.2
        assert found[name]["unit"] == "bits/token"


def test_what_cannot_be_is_counted_apart(tmp_path, monkeypatch):
    import tests.toys.copycat  # noqa: F401

    config = build("markov", tmp_path, drawer(monkeypatch, None), length=6, vocab_size=5, order=2)
    config.data.update(tokens=600, validation_tokens=12_000)
    held = data.load(config.data, "validation").gather(np.arange(2_000))["tokens"]

    def half(config, num):
        some = held[held[:, 0] == 0][:64, :6].copy()
        some[::2, 3] = 5
        return some

    monkeypatch.setattr(sys.modules["shown.drawer"], "sample", lambda c, p, k, n: half(c, n))
    found = reverse_cross_entropy.measure(config, PARAMS)
    assert found["impossible"].value == 0.5 and found["reverse_cross_entropy"].examples == 32
    own = -markov.log_probability(config.data, held[held[:, 0] == 0][1:64:2, :6])
    assert found["reverse_cross_entropy"].value == pytest.approx(own.mean() / (5 * np.log(2)))
    real = -markov.log_probability(config.data, held[held[:, 0] == 0][:, :6])
    assert found["reverse_floor"].value == pytest.approx(real.mean() / (5 * np.log(2)))


@pytest.mark.parametrize("module", [gaussian_mixture, markov])
def test_the_older_sources_say_their_probability(module):
    rng = np.random.default_rng(0)
    if module is markov:
        settings = markov.DEFAULTS | dict(length=6, vocab_size=4, order=2)
        windows = markov.sample(markov.transition(settings), 8, 6, rng)
        bits = markov.log2_probability(markov.transition(settings), windows)
        assert markov.log_probability(settings, windows) == pytest.approx(bits * np.log(2))
        windows[3, 2] = 4
        assert markov.log_probability(settings, windows)[3] == -np.inf
    else:
        images, _ = gaussian_mixture.sample(gaussian_mixture.DEFAULTS, 4, rng)
        density = gaussian_mixture.log_density(gaussian_mixture.DEFAULTS, images)
        found = gaussian_mixture.log_probability(gaussian_mixture.DEFAULTS, images)
        np.testing.assert_array_equal(found, density)


def test_lost_modes_and_bad_points_are_seen(tmp_path):
    config = build("modes", tmp_path, images=2_000, validation_images=900)
    evaluation.check(config, data.outline(config.data))
    found = evaluation.scores(config, PARAMS)
    assert found["modes_covered"]["value"] == found["modes_covered_held_out"]["value"] == 8
    assert found["mode_quality"]["value"] > 0.99 and found["mode_divergence"]["value"] < 0.03
    config.model.share = 0.25
    noise = evaluation.scores(config, PARAMS)
    assert noise["mode_quality"]["value"] == pytest.approx(0.25, abs=0.08)
    assert found["modes_lost"]["value"] == noise["modes_lost"]["value"] == 0
    assert not failures.found(config, [], found)


def test_a_model_that_draws_two_of_eight_modes_has_collapsed(tmp_path, monkeypatch):
    config = build("modes", tmp_path, images=2_000, validation_images=900)
    points, label = modes.sample(config.data, 4_000, np.random.default_rng(0))
    two = points[(label == 1) | (label == 6)][:600]
    monkeypatch.setattr(image_samples, "drawn", lambda config, params: two)
    found = evaluation.scores(config, PARAMS)
    assert found["modes_covered"]["value"] == 2 and found["modes_lost"]["value"] == 0.75
    (failure,) = failures.found(config, [], found).items()
    assert failure[0] == "mode_collapse" and "most modes are never drawn" in failure[1]["reason"]


def test_coverage_by_hand():
    points, label = modes.sample(modes.DEFAULTS, 4_000, np.random.default_rng(0))
    two = points[(label == 1) | (label == 6)]
    found = mode_coverage.coverage(*modes.nearest_modes(modes.DEFAULTS, two), 8)
    assert found["modes_covered"] == 2 and found["mode_divergence"] == pytest.approx(2, abs=1e-2)
    which, near = np.array([0, 0, 0, 1, 2]), np.array([True, True, False, True, False])
    found = mode_coverage.coverage(which, near, 4)
    assert found["modes_covered"] == 2 and found["mode_quality"] == intervals.share(3, 5)
    entropy = -(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3))
    assert found["mode_divergence"] == pytest.approx(2 - entropy)
    nothing = mode_coverage.coverage(which, np.zeros(5, bool), 4)
    assert (nothing["modes_covered"], nothing["mode_divergence"]) == (0, 2)


@pytest.mark.parametrize(
    "source, name, changes, said",
    [
        ("glyphs", "reverse_cross_entropy", {}, "'glyphs' does not know; nearest valid: markov, "),
        ("ising", "mode_coverage", {}, "'ising' has none; nearest valid: 'modes'"),
        ("modes", "mode_coverage", {"image_recipe": "images_1k"}, "image_recipe='images_1k'"),
        ("ising", "reverse_cross_entropy", {"image_recipe": "many"}, "image_recipe='many'"),
        ("modes", "frechet", {}, "'frechet' judges 8-bit images"),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path, source, name, changes, said):
    config = build(source, tmp_path)
    config.evaluation.update(changes, evaluators=(name,))
    with pytest.raises(UserError, match=said) as error:
        evaluation.check(config, data.outline(config.data))
    assert "\n" not in str(error.value)


def test_families_that_draw_nothing_are_refused(tmp_path):
    for source, name in (("ising", "reverse_cross_entropy"), ("modes", "mode_coverage"),
                         ("markov", "reverse_cross_entropy")):  # fmt: skip
        config = build(source, tmp_path)
        config.family = "classifier"
        config.evaluation.evaluators = (name,)
        with pytest.raises(UserError, match="family 'classifier' draws no samples"):
            evaluation.check(config, data.outline(config.data))


def test_the_ising_source_is_what_its_draws_cost():
    """On draws of one temperature the density of another is off by the exact divergence."""
    cold, hot = (ising.DEFAULTS | dict(height=4, width=4, beta=beta) for beta in (0.44, 0.2))
    drawn = ising.sample(hot, 20_000, np.random.default_rng(0))
    each = ising.log_probability(hot, drawn) - ising.log_probability(cold, drawn)
    hot_z, cold_z = ising.lattice(hot), ising.lattice(cold)
    divergence = cold_z.log_z - hot_z.log_z + (0.44 - 0.2) * hot_z.energy
    assert abs(each.mean() - divergence) < 4 * each.std() / 20_000**0.5
