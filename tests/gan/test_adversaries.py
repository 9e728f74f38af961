"""Adversarial networks against what is known: equilibria, divergences, penalties, norms."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import cost, data, defaults, failures, families, programs, recipes
from research.errors import UserError
from research.families import gan
from research.families.gan import hinge, non_saturating, relativistic, spectral, wasserstein
from research.train import train
from tests import shapes

KEY = jax.random.key(0)
SPEC = {"shape": (8, 8, 1), "num_classes": 4, "discrete": False, "levels": 0}


def images(rows=8):
    return jnp.asarray(np.random.default_rng(0).normal(size=(rows, 8, 8, 1)), jnp.float32)


def field(objective, r1):
    """How the Dirac-GAN moves (Mescheder et al. 2018, section 2): data at 0, an image at theta."""

    def slopes(players):
        theta, psi = players

        def discriminator(psi):
            real, fake = jnp.zeros(1) * psi, jnp.array([theta]) * psi
            return objective.discriminator(real, fake) + 0.5 * r1 * psi**2

        def generator(theta):
            return objective.generator(jnp.zeros(1) * psi, jnp.array([theta]) * psi)

        return -jnp.stack([jax.grad(generator)(theta), jax.grad(discriminator)(psi)])

    return slopes


@pytest.mark.parametrize(
    "objective, r1, expected",
    [
        (non_saturating, 0.0, [-0.5j, 0.5j]),
        (non_saturating, 0.5, [-0.25 - 0.4330127j, -0.25 + 0.4330127j]),
        (non_saturating, 2.0, [-1.8660254, -0.1339746]),
        (relativistic, 0.0, [-0.5j, 0.5j]),
        (wasserstein, 0.0, [-1j, 1j]),
        (wasserstein, 2.0, [-1, -1]),
        (hinge, 0.0, [-1j, 1j]),
    ],
)
def test_eigenvalues_where_two_players_meet(objective, r1, expected):
    """Without a penalty they turn about each other; R1 brings them together (their section 4)."""
    jacobian = jax.jacobian(field(objective, r1))(jnp.zeros(2))
    found = np.sort_complex(np.linalg.eigvals(np.asarray(jacobian, np.float64)))
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("r1, settles", [(0.0, False), (1.0, True)])
def test_steps_of_both_at_once_settle_with_the_penalty_alone(r1, settles):
    players, slopes = jnp.ones(2), jax.jit(field(non_saturating, r1))
    for _ in range(400):
        players = players + 0.2 * slopes(players)
    assert (np.linalg.norm(players) < 1e-3) == settles
    assert settles or np.linalg.norm(players) > 0.5


def test_the_best_discriminator_measures_the_divergence():
    """Its loss is log 4 - 2 JSD, and no other logits have less (Goodfellow et al. 2014)."""
    p, q = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.1, 0.3, 0.3, 0.3])

    def value(said):  # expectations over four points
        sure = jnp.full(1, 99.0)
        real, fake = (
            sum(w * cost(said[k : k + 1]) for k, w in enumerate(weights))
            for weights, cost in (
                (p, lambda each: non_saturating.discriminator(each, -sure)),
                (q, lambda each: non_saturating.discriminator(sure, each)),
            )
        )
        return real + fake

    best = jnp.log(p) - jnp.log(q)
    middle = (p + q) / 2
    jsd = 0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum()
    assert float(value(best)) == pytest.approx(np.log(4) - 2 * jsd, rel=1e-5)
    assert float(value(jnp.zeros(4))) == pytest.approx(np.log(4), rel=1e-5)
    np.testing.assert_allclose(jax.grad(value)(best), 0, atol=1e-6)


def test_losses_by_hand():
    real, fake = jnp.array([2.0, 0.5]), jnp.array([-3.0, 0.2])
    assert float(hinge.discriminator(real, fake)) == pytest.approx(0.25 + 0.6)
    assert float(hinge.generator(real, fake)) == pytest.approx(1.4)
    assert float(wasserstein.discriminator(real, fake)) == pytest.approx(-1.4 - 1.25)
    pair = np.log1p(np.exp([-5.0, -0.3]))
    assert float(relativistic.discriminator(real, fake)) == pytest.approx(pair.mean())
    assert float(relativistic.generator(real, fake)) == pytest.approx((pair + [5, 0.3]).mean())


def linear(**model):
    """A linear discriminator, so that its slope is one vector everywhere."""
    config = shapes.gan(depth=0, **model)
    params = jax.jit(lambda: gan.init(config, KEY))()
    return config, params, np.asarray(params["discriminator"]["network"]["last"]["kernel"])


@pytest.mark.parametrize("key, places", [("r1_weight", 1), ("r2_weight", 1), ("between_weight", 0)])
def test_penalties_of_a_linear_discriminator(key, places):
    weights = dict.fromkeys(gan.PENALTIES, 0.0) | {key: 3.0}
    config, params, kernel = linear(**weights)
    square = np.square(kernel).sum()
    expected = 1.5 * square if places else 3.0 * (np.sqrt(square) - 1) ** 2
    _, metrics = gan.discriminator_loss(config, params, {"image": images()}, KEY, 0)
    assert float(metrics["penalty"]) == pytest.approx(expected, rel=1e-4)
    bare = shapes.gan(depth=0, **dict.fromkeys(gan.PENALTIES, 0.0))
    _, none = gan.discriminator_loss(bare, params, {"image": images()}, KEY, 0)
    assert none["penalty"] == 0


def test_a_critic_of_slope_one_has_no_penalty_between():
    config, params, kernel = linear(r1_weight=0.0, between_weight=10.0)
    own = params["discriminator"]["network"]["last"]
    own["kernel"] = jnp.asarray(kernel / np.linalg.norm(kernel))
    _, metrics = gan.discriminator_loss(config, params, {"image": images()}, KEY, 0)
    assert float(metrics["penalty"]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shape", [(30, 20), (3, 3, 5, 7)])
def test_the_norm_of_a_kernel_is_its_largest_singular_value(shape):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    u, values, v = np.linalg.svd(kernel.reshape(-1, shape[-1]), full_matrices=False)
    assert float(spectral.norm(jnp.asarray(kernel), 200)) == pytest.approx(values[0], rel=1e-4)
    slope = jax.grad(lambda k: spectral.norm(k, 200))(jnp.asarray(kernel))
    np.testing.assert_allclose(slope.reshape(-1, shape[-1]), np.outer(u[:, 0], v[0]), atol=2e-2)


def test_normalised_kernels_have_norm_one_and_biases_stay():
    config = shapes.gan(spectral_steps=100)
    params = jax.jit(lambda: gan.init(config, KEY))()
    own = params["discriminator"]["network"]
    for old, new in zip(*map(jax.tree.leaves, (own, spectral.normalised(own, 100))), strict=True):
        if old.ndim < 2:
            np.testing.assert_array_equal(old, new)
        else:
            assert np.linalg.norm(new.reshape(-1, new.shape[-1]), 2) == pytest.approx(1, rel=1e-3)
    x = images()
    free = gan.logits(shapes.gan(), params, x)
    assert np.abs(np.asarray(gan.logits(config, params, x) - free)).max() > 1e-3


def stepped(state, config, **changed):
    step = jax.jit(functools.partial(gan.update, config))
    batch = {"image": images(), "label": np.arange(8) % 4}
    return step(state, batch, KEY, 0, np.float32(0.01), **changed)


def fresh(config):
    return programs.fresh(config, gan, jax.jit(lambda: gan.init(config, KEY))())


def test_a_player_moves_by_its_own_loss_and_moments_alone():
    config = shapes.gan()
    before = fresh(config)
    after = jax.tree.map(lambda x: x + 1, before)
    for player, other in (gan.PLAYERS, gan.PLAYERS[::-1]):
        mixed = gan.only(player, before, after)
        for path, leaf in jax.tree_util.tree_leaves_with_path(mixed):
            old = dict(jax.tree_util.tree_leaves_with_path(before))[path]
            name = jax.tree_util.keystr(path)
            moved = bool(np.all(leaf != old))
            if player in name or other in name:
                assert moved == (player in name), name
            else:  # such as the number of steps, of which each step of both counts one
                assert moved == (player == "generator"), name


def test_both_players_move_and_the_optimizer_counts_one_step():
    config = shapes.gan(discriminator_steps=3)
    before = fresh(config)
    after, metrics = stepped(before, config)
    for player in gan.PLAYERS:
        own = (each["params"][player] for each in (before, after))
        pairs = zip(*map(jax.tree.leaves, own), strict=True)
        assert any((old != new).any() for old, new in pairs)
    counts = [x for x in jax.tree.leaves(after["opt_state"]) if x.ndim == 0]
    assert counts and all(int(each) == 1 for each in counts)
    assert {"loss", "grad_norm", "discriminator_loss", "real", "fake", "right"} <= set(metrics)


def test_the_generator_answers_the_discriminator_as_it_is_now():
    """Its step is after the other's: with a discriminator that has moved it has another loss."""
    config = shapes.gan()
    before = fresh(config)
    _, metrics = stepped(before, config)
    first, _ = jax.random.split(KEY, 2)
    stale, _ = gan.loss(config, before["params"], {"image": images()}, first, 0)
    assert float(metrics["loss"]) != pytest.approx(float(stale), rel=1e-4)


def test_the_ledger_counts_every_step_of_the_discriminator():
    one, two, three = (
        cost.ledger(shapes.gan(discriminator_steps=count)).step_flops for count in (1, 2, 3)
    )
    assert three - two == two - one > 0


def test_levels_are_rounded_and_gradients_pass():
    config = shapes.gan(discrete=True, levels=2)
    params = jax.jit(lambda: gan.init(config, KEY))()
    x = gan.generated(config, params, KEY, 16)
    assert set(np.unique(x)) == {-1.0, 1.0}
    slope = jax.grad(lambda params: gan.generated(config, params, KEY, 16).sum())(params)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope["generator"]))
    drawn = gan.sample(config, params, KEY, 5)
    assert drawn.dtype == np.uint8 and drawn.shape == (5, 8, 8, 1) and drawn.max() <= 1


def test_a_class_is_a_projection_of_what_is_said():
    """The logit of a class is that of the image and its row times the features (equation 4)."""
    config = shapes.gan(num_classes=4)
    params = jax.jit(lambda: gan.init(config, KEY))()
    x = images()
    plain = gan.logits(config, params, x)
    label = jnp.arange(8) % 4
    other = dict(params["discriminator"], projection=2 * params["discriminator"]["projection"])
    once = gan.logits(config, params, x, label) - plain
    twice = gan.logits(config, params | {"discriminator": other}, x, label) - plain
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-3, atol=1e-6)
    assert np.abs(once).max() > 0
    two = [gan.sample(config, params, KEY, 4, np.full(4, label)) for label in (0, 1)]
    assert (two[0] != two[1]).any()


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ring")
    config = defaults.config("gan", "modes", objective="relativistic")
    config.recipe, config.data.folder = "fixed", str(folder / "data")
    config.model.update(image_shape=(1, 2, 1), discrete=False, width=64, depth=2, r2_weight=1.0)
    config.train.update(steps=1000, batch_size=128, learning_rate=1e-3, warmup_steps=0)
    config.evaluation.update(examples=2000, image_recipe="images_512")
    config.evaluation.evaluators = ("validation", "mode_coverage", "reverse_cross_entropy")
    return train(recipes.apply(config), folder / "run")


@pytest.mark.slow
def test_all_modes_of_a_ring_are_drawn(ring):
    scores = {name: each["value"] for name, each in ring["scores"].items()}
    assert ring["status"] == "finished"
    assert scores["modes_covered"] >= 7 and scores["modes_lost"] == 0
    assert scores["sample_distance"] < 0.05 and np.isfinite(scores["reverse_cross_entropy"])


def test_a_discriminator_that_is_never_wrong_is_a_failure(tmp_path):
    """A generator that hardly moves against one that learns what is far away."""
    config = shapes.gan(r1_weight=0.0)
    assert failures.found(config, [{"right": 1.0}], {})["discriminator_wins"]
    assert not failures.found(config, [{"right": 0.9}], {})
    config.data.folder = str(tmp_path / "data")
    config.train.groups = {"still": {"paths": ("generator*",), "rate": 0.0}}
    config.train.update(steps=150, learning_rate=0.05)
    result = train(recipes.apply(config), tmp_path / "run")
    assert result["status"] == "failed" and "discriminator_wins" in result["failures"]


REFUSED = [
    ({"num_classes": 3}, "num_classes=3 must be 0 or 4"),
    ({"latent_channels": 0}, "latent_channels=0 must be at least 1"),
    ({"discriminator_steps": 0}, "discriminator_steps=0 must be at least 1"),
    ({"spectral_steps": -1}, "spectral_steps=-1 must be at least 0"),
    ({"r1_weight": -1.0}, "r1_weight=-1.0 must be at least 0"),
    ({"r2_weight": float("inf")}, "r2_weight=inf must be at least 0"),
    ({"between_weight": float("nan")}, "between_weight=nan must be at least 0"),
    ({"image_shape": (16, 16, 1)}, r"image_shape=\(16, 16, 1\) must be \(8, 8, 1\)"),
    ({"discrete": True}, "discrete=True must be False"),
    ({"width": 0}, "width=0 must be at least 1"),
]


@pytest.mark.parametrize("model, message", REFUSED)
def test_what_cannot_be_is_refused_before_any_compile(model, message):
    config = shapes.gan()
    config.model.update(model)
    with pytest.raises(UserError, match=message) as error:
        families.check(config, SPEC)
    assert "\n" not in str(error.value)


def test_tokens_and_micro_batches_are_refused():
    config = shapes.gan()
    with pytest.raises(UserError, match="reads images"):
        families.check(config, data.outline(defaults.config("gan", "markov").data))
    config.hardware.accumulation = 2
    with pytest.raises(UserError, match="accumulation=2 must be 1"):
        families.check(config, SPEC)
    with pytest.raises(UserError, match="'hinges' is not one of .*did you mean 'hinge'"):
        defaults.override(config, ["--config.model.objective=hinges"])
