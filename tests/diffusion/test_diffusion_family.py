"""The family protocol of diffusion: losses, scores, masks and samples."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from research import defaults, families, parts
from research.errors import UserError
from research.families import diffusion
from research.families.diffusion import bound as bounds_of
from research.families.diffusion import denoiser, drawing
from research.families.diffusion.process import Process

SHAPE = (8, 8, 1)
KINDS = [("eps", True), ("x0", True), ("v", False)]
SPEC = {"shape": SHAPE, "num_classes": 3, "discrete": True, "levels": 256}


def make_config(**changes) -> Any:
    model = ConfigDict(parts.keys(diffusion, {}))
    model.update(depth=1, width=16, num_heads=2, image_shape=SHAPE, num_classes=3, patch_size=4)
    model.update(changes)
    return ConfigDict(
        dict(
            family="diffusion",
            model=model,
            data=dict(name="glyphs"),
            hardware={**defaults.hardware(), "unroll": 1},
            sampling=dict(diffusion.default_sampling(), steps=4),
            evaluation=diffusion.default_evaluation(),
        )
    )


def make_batch(rows=96, discrete=True):
    generator = np.random.default_rng(0)
    if discrete:
        image = generator.integers(0, 256, (rows, *SHAPE), dtype=np.uint8)
    else:
        image = generator.normal(size=(rows, *SHAPE)).astype(np.float32)
    label = np.arange(rows, dtype=np.int32) % 3
    return {"image": image, "label": label, "mask": np.ones(rows, np.float32)}


def make_params(config) -> Any:
    """Parameters of the right shapes, none of them zero."""
    generator = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: 0.15 * generator.normal(size=leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0))),
    )


def silent_params(config) -> Any:
    """The same with an output of zero, as at the start of training."""
    params = make_params(config)
    return {**params, "final": jax.tree.map(np.zeros_like, params["final"])}


@functools.cache
def compiled(function, config) -> Any:
    return jax.jit(lambda params, batch, key: function(config, params, batch, key))


def loss(config, params, batch, key):
    return diffusion.loss(config, params, batch, key, jnp.int32(0))


def run(function, config, params, batch, key=3):
    """`function(config, params, batch, key)`, compiled once for each config."""
    return compiled(function, FrozenConfigDict(config))(params, batch, jax.random.key(key))


def bound(config, params, batch, key=3):
    """The score's summed bits and dimensions."""
    return run(diffusion.score, config, params, batch, key)["bound"]


@pytest.mark.parametrize("prediction, discrete", KINDS)
def test_loss_of_a_silent_network_is_the_targets_power(prediction, discrete):
    """`simple` is then the mean square of eps, x_0 or v."""
    config = make_config(prediction=prediction, discrete=discrete)
    batch = make_batch(discrete=discrete)
    value, metrics = run(loss, config, silent_params(config), batch)
    image = batch["image"] / 127.5 - 1 if discrete else batch["image"]
    power = {"eps": 1.0, "x0": np.mean(image**2)}
    alpha_squared = np.mean(1 / (1 + np.exp(np.linspace(-13.3, 5, 10_001))))
    power["v"] = alpha_squared * power["eps"] + (1 - alpha_squared) * power["x0"]
    assert float(value) == pytest.approx(power[prediction], rel=0.05)
    assert float(metrics["mse"]) == float(value)


@pytest.mark.parametrize("prediction, discrete", KINDS)
def test_training_bound_is_the_score(prediction, discrete):
    """Both estimate the same bits per dimension, by two roads: weights, and conversion to eps."""
    config = make_config(prediction=prediction, discrete=discrete)
    batch, params = make_batch(discrete=discrete), make_params(config)
    training, scores = [], []
    for key in range(24):
        training.append(float(run(loss, config, params, batch, key)[1]["bound"]))
        result = bound(config, params, batch, key)
        scores.append(float(result["total"] / result["count"]))
    error = (np.var(training) + np.var(scores)) ** 0.5 / 24**0.5
    assert np.mean(training) == pytest.approx(np.mean(scores), abs=3.5 * float(error))
    assert error < 0.02 * np.mean(scores)


def test_loss_weighting_changes_the_loss_not_the_metric():
    batch, losses, bounds = make_batch(), [], []
    for weighting in ("simple", "bound"):
        config = make_config(loss_weighting=weighting)
        value, metrics = run(loss, config, make_params(config), batch)
        losses.append(float(value))
        bounds.append(float(metrics["bound"]))
    assert bounds[0] == bounds[1] != losses[0]
    # What no network changes is no part of the loss.
    image, dims = batch["image"], 64 * np.log(2)
    fixed = bounds_of.reconstruction(jnp.asarray(image), -13.3, 256).mean() / dims
    fixed += bounds_of.prior(denoiser.pixels(config, jnp.asarray(image)), 5.0).mean() / dims
    assert losses[1] + float(fixed) == pytest.approx(bounds[1], rel=1e-6)


@pytest.mark.parametrize("function", [loss, diffusion.score])
def test_masked_rows_do_not_count(function):
    config = make_config()
    params, batch = make_params(config), make_batch()
    batch["mask"] = (np.arange(96) % 3 != 1).astype(np.float32)
    other = dict(batch, image=batch["image"].copy())
    other["image"][1::3] = 77
    first, second = (run(function, config, params, each) for each in (batch, other))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    if function is diffusion.score:
        assert first["bound"]["count"] == 64 * 64


def test_a_batch_without_a_mask_counts_whole():
    assert np.array_equal(diffusion.examples({"image": jnp.zeros((3, *SHAPE))}), np.ones(3))


def test_score_is_deterministic_and_better_with_more_times():
    config, batch = make_config(), make_batch()
    params = make_params(config)

    def total(key):
        return bound(config, params, batch, key)["total"]

    totals = [total(key) for key in range(24)]
    assert totals[3] == total(3) != totals[4]
    config.evaluation.time_samples = 64
    better = [total(key) for key in range(24)]
    assert np.std(better) < np.std(totals) / 2.5


def test_score_of_a_process_in_steps_is_higher():
    config, batch = make_config(), make_batch()
    params = silent_params(config)
    continuous = bound(config, params, batch)["total"]
    config.evaluation.time_steps = 20
    assert bound(config, params, batch)["total"] > 1.2 * continuous


def test_labels_matter_only_with_classes():
    batch = make_batch()
    other = dict(batch, label=(batch["label"] + 1) % 3)
    for num_classes, same in ((3, False), (0, True)):
        config = make_config(num_classes=num_classes)
        params = make_params(config)
        totals = [bound(config, params, each)["total"] for each in (batch, other)]
        assert bool(totals[0] == totals[1]) is same


def test_dropped_labels_are_the_null_class():
    """With every label dropped, the loss is that of a batch labelled `num_classes`."""
    dropping, keeping = make_config(class_dropout=1 - 1e-7), make_config(class_dropout=1e-9)
    params, batch = make_params(dropping), make_batch()
    null = dict(batch, label=np.full(96, 3, np.int32))
    value, _ = run(loss, dropping, params, batch)
    assert value == run(loss, keeping, params, null)[0]
    assert value != run(loss, keeping, params, batch)[0]


@pytest.mark.parametrize("sampler, discrete", [("ddpm", True), ("ddim", False)])
def test_samples(sampler, discrete):
    config = make_config(discrete=discrete)
    config.sampling.sampler = sampler
    params = make_params(config)
    images = diffusion.sample(config, params, jax.random.key(0), 5)
    assert images.shape == (5, *SHAPE)
    assert images.dtype == (np.uint8 if discrete else np.float32)
    again = diffusion.sample(config, params, jax.random.key(0), 5)
    assert np.array_equal(images, again)
    labelled = [
        diffusion.sample(config, params, jax.random.key(0), 5, jnp.full(5, label))
        for label in (0, 1)
    ]
    assert not np.array_equal(labelled[0], labelled[1])
    draw: Any = drawing.draw
    programs, config.sampling.steps = draw._cache_size(), 7
    more = diffusion.sample(config, params, jax.random.key(0), 5)
    assert not np.array_equal(images, more) and draw._cache_size() == programs


def test_samples_of_a_memorised_image():
    """With the last bias set so that x_0 is one grey everywhere, that grey is drawn."""
    config = make_config(prediction="x0")
    params = silent_params(config)
    params["final"]["bias"] += np.float32(200 / 127.5 - 1)
    images = diffusion.sample(config, params, jax.random.key(0), 3).astype(int)
    # z_0 still has the noise of gamma_min in it, a sixth of a level: half a level is three sigmas.
    assert np.abs(images - 200).max() <= 1 and np.mean(images == 200) > 0.98


def test_a_good_config_passes_the_check():
    diffusion.check(make_config(class_dropout=0.1), SPEC)


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        ("model", "prediction", "epsilon", "prediction='epsilon' is not one of eps, x0, v"),
        ("model", "prediction", "x0", "gamma_min=-13.3: the bound divides .* use 'v'"),
        ("model", "loss_weighting", "bounds", "did you mean 'bound'"),
        ("model", "schedule", "cosin", "did you mean 'cosine'"),
        ("model", "patch_size", 3, "patch_size=3 does not divide the 8x8"),
        ("model", "patch_size", 0, "patch_size=0"),
        ("model", "width", 18, "multiple of 4"),
        ("model", "time_features", 7, "multiple of 2"),
        ("model", "class_dropout", 1.0, "class_dropout=1.0"),
        ("model", "num_classes", 5, "must be 0 or 3"),
        ("model", "image_shape", (8, 8, 3), "image_shape"),
        ("model", "discrete", False, "discrete"),
        ("model", "gamma_max", -20.0, "gamma_min"),
        ("sampling", "sampler", "dim", "did you mean 'ddim'"),
        ("sampling", "steps", 0, "at least 1"),
        ("sampling", "eta", -0.5, "eta=-0.5 must be from 0 to 1"),
        ("sampling", "rho", 0.0, "rho=0.0 must be positive"),
        ("model", "shift", -1.0, "shift=-1.0 must be positive"),
        ("model", "zero_terminal", True, "zero_terminal=True: where there is no signal"),
        ("evaluation", "time_samples", 0, "at least 1"),
        ("evaluation", "ode_steps", 0, "ode_steps=0 must be at least 1"),
        ("evaluation", "ode_probes", -1, "ode_probes=-1 must be at least 0"),
    ],
)
def test_bad_configs_are_refused(section, key, value, words):
    config = make_config()
    config.family, config[section][key] = "diffusion", value
    with pytest.raises(UserError, match=words):
        families.check(config, SPEC)


def test_what_an_error_of_x0_costs():
    """An error of 1% of the pixels' range: a bit a dimension at the bound's end, or less in v."""
    gamma, error = jnp.linspace(diffusion.LEAST_GAMMA_OF_X0, 5.0, 20_001), 0.02**2
    bits = {
        kind: float(jnp.trapezoid(0.5 * Process("vp", kind).eps_error_weight(gamma), gamma))
        * error
        / np.log(2)
        for kind in ("x0", "v")
    }
    assert 0.5 < bits["x0"] < 1 and bits["v"] < 0.01
    config = make_config(prediction="x0")
    config.model.gamma_min = diffusion.LEAST_GAMMA_OF_X0
    diffusion.check(config, SPEC)


def test_text_is_refused():
    with pytest.raises(UserError, match="gives tokens"):
        diffusion.check(make_config(), {"vocab_size": 256})
