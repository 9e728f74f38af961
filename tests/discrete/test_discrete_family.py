"""The family protocol of discrete diffusion on small networks: losses, scores, blocks, samples."""

import functools
import itertools
import math
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import defaults, families
from research.errors import UserError
from research.families import autoregressive, discrete_diffusion
from research.families.discrete_diffusion import noise_levels
from tests import shapes

KEY = jax.random.key(0)


def perturbed(config) -> Any:
    """Parameters of the right shapes, none of them zero."""
    generator = np.random.default_rng(1)
    family = families.load(config.family)
    found = jax.eval_shape(lambda: family.init(config, KEY))
    return jax.tree.map(lambda x: jnp.asarray(0.3 * generator.normal(size=x.shape), x.dtype), found)


def batch(config, rows=2):
    shape = (rows, config.data.length + 1)
    tokens = jax.random.randint(jax.random.key(5), shape, 0, config.data.vocab_size)
    return {"tokens": tokens, "mask": jnp.ones(rows)}


def scores(config, params, given, count):
    """What `count` keys say."""
    keys = jax.random.split(KEY, count)
    run = jax.jit(
        jax.vmap(lambda key: discrete_diffusion.score(config, params, given, key)["bound"])
    )
    return {name: np.asarray(x, np.float64) for name, x in run(keys).items()}


def denoised(config, params, first, read, text, share=None):
    """What the head reads, compiled."""
    share = jnp.zeros(len(first)) if share is None else share
    return jax.jit(functools.partial(discrete_diffusion.denoised, config))(
        params, first, read, text, share
    )[0]


def exact_bits(config, params, given):
    """The bound of a masked network by every set of hidden tokens, each with its weight."""
    first, tokens = discrete_diffusion.window(config, given)
    length, total = tokens.shape[1], 0.0

    @jax.jit
    def nats(read):
        x, _ = discrete_diffusion.denoised(config, params, first, read, tokens, jnp.zeros(2))
        return discrete_diffusion.head(config).nats(config, params, x, tokens)

    for hidden in [*itertools.product((False, True), repeat=length)][1:]:
        many = sum(hidden)
        found = nats(jnp.where(jnp.array(hidden), config.model.vocab_size, tokens))
        total += float((found * jnp.array(hidden)).sum()) / (many * math.comb(length, many))
    return total / math.log(2)


def test_the_score_is_the_bound_and_says_how_noisy_it_is():
    config = shapes.discrete_diffusion(4, 4, depth=1)
    params, given = perturbed(config), batch(config)
    found = scores(config, params, given, 400)
    exact, spread = exact_bits(config, params, given), found["total"].std()
    assert found["total"].mean() == pytest.approx(exact, abs=4 * spread / 20)
    assert found["variance"].mean() == pytest.approx(spread**2, rel=0.3)
    assert (found["count"] == 8).all()
    config.evaluation.time_samples = 16
    assert scores(config, params, given, 100)["total"].std() < 0.7 * spread


def test_training_and_scores_are_of_one_bound():
    """By any schedule, of either weight alone, and in the process's own steps."""
    config = shapes.discrete_diffusion(4, 4, depth=1, schedule="cosine")
    params, given = perturbed(config), batch(config)
    exact = exact_bits(config, params, given) / 8

    def measured(config, count=600):
        run = jax.jit(
            jax.vmap(lambda key: discrete_diffusion.loss(config, params, given, key, jnp.int32(0)))
        )
        loss, metrics = run(jax.random.split(KEY, count))
        return np.asarray(loss, np.float64), {k: np.asarray(v) for k, v in metrics.items()}

    loss, metrics = measured(config)
    np.testing.assert_allclose(loss / np.log(2), metrics["bound"], rtol=1e-5)
    assert metrics["bound"].mean() == pytest.approx(
        exact, abs=float(4 * metrics["bound"].std() / 600**0.5)
    )
    config.model.update(bound_weight=0.0, cross_entropy_weight=2.0)
    other, same = measured(config)
    np.testing.assert_allclose(other / 2 / np.log(2), same["cross_entropy"], rtol=1e-5)
    config.evaluation.time_steps = 1
    whole = scores(config, params, given, 8)["total"]
    assert np.ptp(whole) < 1e-3 and abs(whole[0] / 8 - exact) > 1e-3  # all hidden: no chance


def decoder(**model):
    model = dict(smear=True, zero_outputs=True, qk_norm=True) | model
    config = shapes.autoregressive(4, 6, **model)
    return config, perturbed(config)


@pytest.mark.slow
def test_blocks_of_one_token_are_the_decoder():
    """With its parameters they have its likelihood, exactly, whatever the times are."""
    plain, theirs = decoder()
    config = shapes.discrete_diffusion(
        4, 6, block_size=1, shifted=True, smear=True, zero_outputs=True, qk_norm=True
    )
    params = theirs | {"hidden": perturbed(config)["hidden"]}
    given = batch(config)
    run = jax.jit(functools.partial(autoregressive.score, plain))
    expected = run(theirs, given, KEY)["likelihood"]
    found = scores(config, params, given, 2)
    np.testing.assert_allclose(found["total"], float(expected["total"]), rtol=2e-6)
    assert (found["variance"] < 1e-8).all()


def test_a_block_sees_itself_and_all_before_it():
    """By gradients of each prediction: of drafts, of texts, and of one copy alone."""
    config = shapes.discrete_diffusion(8, 6, block_size=2, smear=True)
    params = perturbed(config)
    first, tokens = jnp.zeros(1, jnp.int32), jnp.array([[1, 2, 3, 4, 5, 6]])

    def reach(draft, text):
        def out(table):
            x, _ = discrete_diffusion.denoised(
                config, {**params, "embedding": table}, first, draft, text, jnp.zeros(1)
            )
            return x[0]

        found = jax.jit(jax.jacrev(out))(params["embedding"])
        return np.abs(np.asarray(found)).max((1, 3)) > 0

    hidden = jnp.full_like(tokens, 8)
    settled = np.repeat(np.repeat(np.tri(3, 3, -1, dtype=bool), 2, 0), 2, 1)
    # All drafts are hidden: what a prediction depends on are the texts of blocks before its own.
    np.testing.assert_array_equal(reach(hidden, tokens)[:, 1:7], settled)
    same = settled | np.repeat(np.repeat(np.eye(3, dtype=bool), 2, 0), 2, 1)
    np.testing.assert_array_equal(reach(tokens, None)[:, 1:7], same)
    # As it is trained, so it is drawn: of the last block, by one copy or by two.
    draft = tokens.at[0, 4].set(8)
    two, one = (denoised(config, params, first, draft, text) for text in (tokens, None))
    np.testing.assert_allclose(two[:, 4:], one[:, 4:], atol=1e-5)


@pytest.mark.parametrize("attention", ["dense", "chunked"])
def test_one_block_is_no_block(attention):
    """A block that is the whole text, read twice, is masked diffusion, read once.

    Of one layer: in a second one what stands first has seen the draft, or nothing where it is
    settled before all blocks.
    """
    config = shapes.discrete_diffusion(4, 6, smear=True, depth=1)
    params, given = perturbed(config), batch(config)
    whole = scores(config, params, given, 2)["total"]
    config.model.block_size, config.hardware.attention = 6, attention
    np.testing.assert_allclose(scores(config, params, given, 2)["total"], whole, rtol=1e-5)


@pytest.mark.parametrize("condition", ["first", "adaln"])
def test_the_time_is_told_to_a_network_of_uniform_noise(condition):
    config = shapes.discrete_diffusion(4, 4, corruption="uniform", condition=condition)
    params, (first, tokens) = perturbed(config), discrete_diffusion.window(config, batch(config))
    found = [
        denoised(config, params, first, tokens, None, jnp.full(2, share)) for share in (0.2, 0.7)
    ]
    assert not np.allclose(found[0], found[1], atol=1e-3)
    assert "hidden" not in params


def test_weights_and_rows_that_do_not_count():
    """The mask leaves rows out; weights of the data weigh bits and bytes."""
    config = shapes.discrete_diffusion(4, 4, depth=1)
    params, given = perturbed(config), batch(config, 4)
    given["mask"] = jnp.array([1.0, 0, 1, 0])
    other = dict(given, tokens=given["tokens"].at[1::2].set(0))
    a, b = (scores(config, params, each, 2) for each in (given, other))
    np.testing.assert_allclose(a["total"], b["total"], rtol=1e-6)
    weights = jnp.broadcast_to(jnp.array([0.0, 1, 0, 3]), (4, 4))
    spelled = jnp.broadcast_to(jnp.arange(4.0), (4, 4))
    assert scores(config, params, dict(given, weights=weights, bytes=spelled), 2)["count"][0] == 20
    loss = jax.jit(functools.partial(discrete_diffusion.loss, config, params))
    heavy = loss(dict(given, weights=2 * jnp.ones((4, 4))), KEY, jnp.int32(0))[0]
    assert float(heavy) == pytest.approx(2 * float(loss(given, KEY, jnp.int32(0))[0]), rel=1e-5)


def images(**model):
    config = defaults.config("discrete_diffusion", "glyphs", optimizer="adamw")
    config.recipe = "fixed"
    plain = dict(depth=1, width=16, num_heads=2, vocab_size=4, image_shape=(4, 4, 1), num_classes=3)
    config.model.update(plain | model)
    config.train.update(steps=1, batch_size=2, learning_rate=1e-2, warmup_steps=0)
    return config


@pytest.mark.slow
def test_guidance_moves_images_away_from_those_without_a_class():
    """The labels of some images are hidden in training; guided draws go by the difference."""
    config = images(class_dropout=0.5)
    params = perturbed(config)
    drawn = {}
    for guidance in (0.0, 10.0, 100.0):  # of one position in 17
        config.sampling.guidance = guidance
        found = [
            discrete_diffusion.sample(config, params, KEY, 32, jnp.full(32, label))
            for label in (0, 1)
        ]
        assert found[0].shape == (32, 4, 4, 1) and found[0].dtype == np.uint8
        drawn[guidance] = np.mean(found[0] != found[1])
    assert drawn[0.0] == 0 < drawn[10.0] < drawn[100.0]


def test_a_text_is_filled_in_around_what_is_given():
    config = shapes.discrete_diffusion(8, 6)
    params = perturbed(config)
    given = np.array([[-1, 3, -1, -1, 5, -1]] * 4)
    for sampler in ("ancestral", "entropy", "remask"):
        config.sampling.sampler = sampler
        found = discrete_diffusion.fill(config, params, KEY, np.zeros(4, int), given)
        assert (found[:, [1, 4]] == [3, 5]).all() and (found >= 0).all() and (found < 8).all()
    rows = discrete_diffusion.sample(config, params, KEY, 3, beginning=np.array([[0, 7, 7]] * 3))
    assert rows.shape == (3, 6) and (rows[:, :3] == [0, 7, 7]).all()


SPEC = {"vocab_size": 16, "length": 8}
PIXELS = {"shape": (4, 4, 1), "num_classes": 3, "discrete": True, "levels": 256}


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("model.corruption", "absorbin", "did you mean 'absorbing'"),
        ("model.schedule", "cosin", "did you mean 'cosine'"),
        ("model.schedule_power", 0.0, "must be positive"),
        ("model.condition", "adalm", "did you mean 'adaln'"),
        ("model.condition", "adaln", "has nothing to tell"),
        ("model.block_size", 3, "nearest valid: 2"),
        ("model.bound_weight", 0.0, "nothing to learn"),
        ("model.bound_weight", -1.0, "must be at least 0"),
        ("model.vocab_size", 15, "too small for the 16 symbols"),
        ("model.class_dropout", 0.1, "must be 0 for a model without classes"),
        ("model.class_dropout", 1.0, "below 1"),
        ("model.num_classes", 3, "gives no images"),
        ("model.time_features", 7, "nearest valid: 6"),
        ("model.logit_softcap", -1.0, "must be at least 0"),
        ("sampling.sampler", "tau_leaping", "is not one of ancestral"),
        ("sampling.sampler", "confidense", "did you mean 'confidence'"),
        ("sampling.steps", 9, "more than the 8 tokens"),
        ("sampling.steps", -1, "must be at least 0"),
        ("sampling.temperature", -1.0, "must be at least 0"),
        ("sampling.guidance", 2.0, "set config.model.class_dropout"),
        ("sampling.remask_share", 1.5, "must be at least 0 and below"),
        ("evaluation.time_samples", 3, "nearest valid: 4"),
        ("evaluation.time_samples", 0, "must be at least 2"),
        ("evaluation.time_steps", -1, "must be at least 0"),
        ("hardware.loss_chunks", 3, "nearest valid: 2"),
    ],
)  # fmt: skip
def test_what_is_refused(key, value, said):
    config = shapes.discrete_diffusion()
    section, name = key.split(".")
    config[section][name] = value
    with pytest.raises(UserError, match=said) as found:
        families.check(config, SPEC)
    assert "\n" not in str(found.value) and f"config.{section}.{name}" in str(found.value)


@pytest.mark.parametrize(
    "changes, spec, said",
    [
        (dict(corruption="uniform", block_size=2), SPEC, "cannot tell the network"),
        (dict(block_size=2, mixer="gated_delta"), SPEC, "does not ask"),
        (dict(), PIXELS, "image_shape=.. must be"),
        (dict(), SPEC | {"arrays": ("tokens", "segments")}, "several texts into one example"),
        (dict(condition="adaln", corruption="uniform", zero_outputs=True), SPEC, "never learns"),
    ],
)
def test_what_does_not_go_together(changes, spec, said):
    config = shapes.discrete_diffusion(**changes)
    with pytest.raises(UserError, match=said):
        families.check(config, spec)


def test_steps_go_by_blocks_and_by_entropy():
    config = shapes.discrete_diffusion(block_size=2)
    config.sampling.steps = 6
    with pytest.raises(UserError, match="nearest valid: 8"):
        families.check(config, SPEC)
    config.sampling.update(sampler="entropy", steps=4)
    with pytest.raises(UserError, match="use steps=0"):
        families.check(config, SPEC)


def test_times_are_even_and_each_uniform():
    times = np.asarray(noise_levels.stratified(KEY, (4, 3, 2)))
    np.testing.assert_allclose(np.diff(np.sort(times.reshape(-1))), 1 / 24, atol=1e-6)
    np.testing.assert_allclose(np.diff(np.sort(times, 0), axis=0), 1 / 4, atol=1e-6)
