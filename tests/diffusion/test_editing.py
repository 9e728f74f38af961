"""What is kept of an image, the noise found in it, and drawing by the whole family's `sample`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from research.errors import UserError
from research.families import diffusion
from research.families.diffusion import editing, image_conditions, samplers
from research.families.diffusion.samplers import Denoised
from tests.diffusion.test_diffusion_family import SHAPE, make_config, make_params

NUM = 4
OPTIONS = diffusion.default_sampling()


@pytest.fixture(name="run", scope="module")
def make_run():
    """A network of random weights, which denoises nothing but says different things of classes."""
    config = make_config(class_dropout=0.1)
    config.family = "diffusion"
    return config, make_params(config)


@pytest.fixture(name="images", scope="module")
def make_images():
    return np.random.default_rng(3).integers(0, 256, (NUM, *SHAPE), dtype=np.uint8)


def draw(run, **asked):
    config, params = run
    changed = config.copy_and_resolve_references()
    for key in ("sampler", "guidance", "guidance_interval"):
        if key in asked:
            changed.sampling[key] = asked.pop(key)
    label = asked.pop("label", jnp.arange(NUM) % 3)
    return diffusion.sample(changed, params, jax.random.key(5), NUM, label, **asked)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_mask_of_nothing_keeps_the_image_and_one_of_all_keeps_none(run, images, sampler):
    nothing, everything = np.zeros((NUM, 8, 8, 1)), np.ones((NUM, 8, 8, 1))
    kept = draw(run, image_BxHxWxC=images, mask_BxHxWx1=nothing, sampler=sampler)
    assert np.array_equal(kept, images)
    drawn = draw(run, image_BxHxWxC=images, mask_BxHxWx1=everything, sampler=sampler)
    assert np.array_equal(drawn, draw(run, sampler=sampler))


def test_a_mask_of_half_keeps_the_other_half(run, images):
    mask = np.zeros((NUM, 8, 8, 1))
    mask[:, :, 4:] = 1
    found = draw(run, image_BxHxWxC=images, mask_BxHxWx1=mask)
    assert np.array_equal(found[:, :, :4], images[:, :, :4])
    assert not np.array_equal(found[:, :, 4:], images[:, :, 4:])


def test_strength(run, images):
    assert np.array_equal(draw(run, image_BxHxWxC=images, strength=0.0), images)
    halves = [draw(run, image_BxHxWxC=images, strength=s).astype(float) for s in (0.25, 1.0)]
    near, far = (np.abs(each - images).mean() for each in halves)
    assert 0 < near < far


def test_means_are_those_asked_for(run):
    small = np.random.default_rng(1).integers(60, 190, (NUM, 4, 4, 1), dtype=np.uint8)
    found = draw(run, small_BxhxwxC=small)
    means = image_conditions.smaller(jnp.asarray(found, jnp.float32), 2)
    plain = image_conditions.smaller(jnp.asarray(draw(run), jnp.float32), 2)
    # The last x_0 has the means; levels beyond black and white are cut, which moves them a bit.
    assert np.abs(means - small).mean() < 5 < 20 < np.abs(plain - small).mean()


def test_enlarged_is_the_pseudo_inverse():
    small = jax.random.normal(jax.random.key(0), (2, 3, 5, 1))
    assert np.allclose(
        image_conditions.smaller(image_conditions.larger(small, 4), 4), small, atol=1e-6
    )
    keep, x0 = editing.keep_means(small, 4), jax.random.normal(jax.random.key(1), (2, 12, 20, 1))
    np.testing.assert_allclose(image_conditions.smaller(keep(x0), 4), small, atol=1e-6)
    np.testing.assert_allclose(keep(keep(x0)), keep(x0), atol=1e-6)


def test_guidance_of_scale_one_is_none(run):
    plain = draw(run)
    assert np.array_equal(plain, draw(run, guidance=1.0))
    assert not np.array_equal(plain, draw(run, guidance=3.0))
    outside = draw(run, guidance=3.0, guidance_interval=(50.0, 60.0))
    assert np.abs(plain.astype(int) - outside.astype(int)).max() <= 1  # one call of twice the batch


def test_pushed_away_from_itself_nothing_moves(run):
    label = jnp.arange(NUM) % 3
    found = draw(run, guidance=4.0, away_B=label)
    assert np.abs(found.astype(int) - draw(run).astype(int)).max() <= 1
    by_itself = draw(run, guidance=4.0, guide=run)
    assert np.array_equal(by_itself, draw(run))


def test_a_worse_run_pushes(run):
    worse = (run[0], jax.tree.map(lambda leaf: 0.5 * leaf, run[1]))
    assert not np.array_equal(draw(run, guidance=4.0, guide=worse), draw(run))


def test_a_path_of_noises_keeps_their_norm():
    first, second = jax.random.normal(jax.random.key(0), (2, 64, 64))
    path = editing.between(first, second, jnp.linspace(0, 1, 5))
    np.testing.assert_allclose(path[0], first, atol=1e-5)
    np.testing.assert_allclose(path[-1], second, atol=1e-5)
    norms = jnp.linalg.norm(path.reshape(5, -1), axis=1)
    assert norms.std() < 0.02 * norms.mean()  # a straight line's middle has .71 of it


def test_a_path_of_images_has_the_ends_of_its_noises(run):
    label = jnp.zeros(NUM, jnp.int32)
    path, apart = draw(run, path=True, label=label), draw(run, label=label)
    assert np.array_equal(path[0], apart[0]) and np.array_equal(path[-1], apart[-1])
    assert not np.array_equal(path[1], apart[1])


def test_sums_of_noises_have_the_norm_of_the_first():
    a, b, c = jax.random.normal(jax.random.key(0), (3, 2, 8, 8, 1))
    assert np.array_equal(editing.combined(a, b, b), a)
    found = editing.combined(a, b, c)
    norms = [jnp.linalg.norm(each.reshape(2, -1), axis=1) for each in (found, a)]
    np.testing.assert_allclose(*norms, rtol=1e-6)
    scaled = c * (norms[1] / jnp.linalg.norm(c.reshape(2, -1), axis=1))[:, None, None, None]
    np.testing.assert_allclose(editing.combined(a, a, c), scaled, atol=1e-5)


def test_what_two_images_differ_by_is_given_to_a_third(run, images):
    """Less itself and with another's noise, an image is drawn as the other; scaled a little."""
    other = images[::-1]
    as_itself = draw(run, image_BxHxWxC=images, minus_BxHxWxC=other, plus_BxHxWxC=other)
    back = draw(run, image_BxHxWxC=images, to_B=jnp.arange(NUM) % 3)
    assert np.array_equal(as_itself, back)
    moved = draw(run, image_BxHxWxC=images, minus_BxHxWxC=images, plus_BxHxWxC=other)
    theirs = draw(run, image_BxHxWxC=other, to_B=jnp.arange(NUM) % 3)
    apart = [np.abs(moved.astype(int) - each).mean() for each in (theirs, back)]
    assert apart[0] < 0.5 * apart[1]


def gaussian(y, gamma_B, guess):
    """E[x_0 | y] for data N(0.5, 0.09)."""
    share = 0.09 / (0.09 + jnp.exp(gamma_B))[:, None]
    return Denoised(0.5 + share * (y - 0.5))


def test_inversion_leads_back():
    """There and back by many steps; the noise found is the flow map's, of variance s^2 + .09."""
    image = 0.5 + 0.3 * jax.random.normal(jax.random.key(0), (6, 3))
    gammas = jnp.linspace(5.0, -13.3, 801)
    noise, _ = samplers.run("ddim", gaussian, image, gammas[::-1], jax.random.key(0), OPTIONS)
    slope = jnp.sqrt((0.09 + jnp.exp(5.0)) / (0.09 + jnp.exp(-13.3)))
    np.testing.assert_allclose(noise, 0.5 + slope * (image - 0.5), rtol=0.02, atol=0.2)
    back, _ = samplers.run("ddim", gaussian, noise, gammas, jax.random.key(0), OPTIONS)
    np.testing.assert_allclose(back, image, atol=1e-2)


def test_a_transfer_to_its_own_class_is_nearly_the_image(run, images):
    config, params = run
    config = config.copy_and_resolve_references()
    config.sampling.steps = 60
    quiet = jax.tree.map(lambda leaf: 0.3 * leaf, params)
    label = jnp.arange(NUM) % 3
    asked: Any = dict(image_BxHxWxC=images, to_B=label)
    found = diffusion.sample(config, quiet, jax.random.key(0), NUM, label, **asked)
    assert np.abs(found.astype(int) - images).mean() < 6
    asked["to_B"] = (label + 1) % 3
    other = diffusion.sample(config, quiet, jax.random.key(0), NUM, label, **asked)
    assert not np.array_equal(other, found)


def test_the_way_to_a_noise_is_never_drawn(run, images):
    """Samplers' own noise, and steps made again, are of the way from it."""
    config, params = run
    label = jnp.arange(NUM) % 3
    noisy = config.copy_and_resolve_references()
    noisy.sampling.update(eta=0.5, repeats=2)
    plain, other = (
        diffusion.sample(
            each, params, jax.random.key(0), NUM, label, image_BxHxWxC=images, to_B=label
        )
        for each in (config, noisy)
    )
    assert np.array_equal(plain, other)


def test_a_hole_of_all_is_no_hole_whatever_the_strength(run, images):
    everything = np.ones((NUM, 8, 8, 1))
    changed = draw(run, image_BxHxWxC=images, strength=0.5)
    found = draw(run, image_BxHxWxC=images, mask_BxHxWx1=everything, strength=0.5)
    assert np.abs(found.astype(int) - changed).max() <= 1


def test_a_path_of_one_image_is_its_first(run):
    config, params = run
    one = diffusion.sample(config, params, jax.random.key(5), 1, jnp.zeros(1, int), path=True)
    assert np.array_equal(
        one, diffusion.sample(config, params, jax.random.key(5), 1, jnp.zeros(1, int))
    )


def test_what_each_step_saw_is_returned(run):
    config, params = run
    frames = diffusion.film(config, params, jax.random.key(5), NUM, label=jnp.arange(NUM) % 3)
    assert frames.shape == (config.sampling.steps, NUM, *SHAPE) and frames.dtype == np.uint8
    # The last step's view is the image, but for the noise of the last level.
    assert np.abs(frames[-1].astype(int) - draw(run)).max() <= 1


def filled_in(repeats: int) -> tuple[float, float]:
    """Mean and variance of b where (a, b) is normal with correlation .9, and a is known to be 1."""
    covariance = jnp.array([[1.0, 0.9], [0.9, 1.0]])
    image = jnp.full((4000, 1, 2, 1), 1.0)
    mask = jnp.zeros(image.shape).at[:, :, 1].set(1.0)

    def denoise(y, gamma_B, guess):
        noisy = covariance + jnp.exp(gamma_B[0]) * jnp.eye(2)
        return Denoised(y.reshape(-1, 2) @ jnp.linalg.solve(noisy, covariance)).x0.reshape(y.shape)

    known = editing.kept(lambda *each: Denoised(denoise(*each)), editing.keep_pixels(image, mask))
    gammas = jnp.linspace(6.0, -8.0, 41)
    noise = jax.random.normal(jax.random.key(0), image.shape)
    y = jnp.exp(0.5 * gammas[0]) * noise + image * (1 - mask)
    options = OPTIONS.copy_and_resolve_references()
    options.repeats = repeats
    b = samplers.run("ddpm", known, y, gammas, jax.random.key(1), options)[0][:, 0, 1, 0]
    return float(b.mean()), float(b.var())


def test_steps_that_are_made_again_agree_with_what_is_known():
    """Given a = 1 the mean of b is .9 and its variance .19; of one walk down neither is."""
    once, often = filled_in(1), filled_in(10)
    assert abs(once[0] - 0.9) > 0.03 or abs(once[1] - 0.19) > 0.03
    assert often[0] == pytest.approx(0.9, abs=0.02) and often[1] == pytest.approx(0.19, abs=0.02)


def test_a_step_that_is_made_once_is_the_step():
    assert samplers.network_calls(ConfigDict({**OPTIONS, "steps": 7, "repeats": 3})) == 21
    with pytest.raises(UserError, match="config.sampling.repeats=0 must be at least 1"):
        samplers.check(ConfigDict({**OPTIONS, "repeats": 0}))
