"""Energy-based models as runs: scores, chains that go on, bounds, failures, and what is refused."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import cost, data, defaults, failures, families, programs, recipes
from research.errors import UserError
from research.families import energy as family
from research.families import sample_distance
from research.train import train
from tests import shapes

SPEC = {"shape": (8, 8, 1), "num_classes": 4, "discrete": False, "levels": 0}
LEVELS = {"shape": (8, 8, 1), "num_classes": 1, "discrete": True, "levels": 2}
KEY = jax.random.key(0)


def ising(folder, energy="pairwise", side=4, **model):
    config = defaults.config("energy", "ising", energy=energy, chain="gibbs")
    config.recipe, config.data.folder = "fixed", str(folder / "data")
    config.data.update(height=side, width=side, images=20_000, validation_images=2_000)
    config.model.update(image_shape=(side, side, 1), levels=2, **model)
    config.train.update(steps=200, batch_size=128, learning_rate=0.05, warmup_steps=0)
    config.evaluation.update(examples=2_000, evaluators=("validation", "excess"))
    return recipes.apply(config)


@pytest.fixture(scope="module")
def spins(tmp_path_factory):
    """A model that holds the Ising lattice, trained by chains that go on."""
    folder = tmp_path_factory.mktemp("spins")
    config = ising(folder)
    config.evaluation.evaluators = ("validation", "excess", "likelihood_bounds")
    config.evaluation.update(temperatures=100, chains=200)
    return config, train(config, folder / "run")


def test_a_model_that_holds_the_lattice_nears_its_entropy(spins):
    _, result = spins
    assert result["score"]["kind"] == "exact" and result["score"]["unit"] == "bits/dim"
    assert 0 < result["scores"]["excess"]["value"] < 0.02


def test_the_likelihood_of_a_run_lies_between_its_bounds(spins):
    config, result = spins
    scores = {name: each["value"] for name, each in result["scores"].items()}
    assert scores["exact"] == pytest.approx(scores["likelihood"], abs=1e-5)
    assert scores["ais"] - 0.01 < scores["exact"] < scores["reverse_ais"] + 0.01
    kinds = {name: each["kind"] for name, each in result["scores"].items()}
    assert kinds["ais"] == "lower bound" and kinds["reverse_ais"] == "upper bound"
    del config


@pytest.mark.slow
def test_hidden_units_learn_what_spins_share(tmp_path):
    result = train(ising(tmp_path, "rbm", width=12, chain_steps=5), tmp_path / "run")
    assert result["scores"]["excess"]["value"] < 0.15  # independent spins have 0.6


def stepped(**model):
    config = shapes.energy(**model)
    state = programs.fresh(config, family, jax.jit(lambda: family.init(config, KEY))())
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    step = jax.jit(functools.partial(family.update, config))
    return state, step(state, {"image": x, "label": np.arange(8) % 4}, KEY, 0, np.float32(0.01))


def test_a_step_moves_as_many_chains_as_there_are_images():
    before, (after, metrics) = stepped()
    moved = (before["memory"]["chains"] != after["memory"]["chains"]).any((1, 2, 3))
    assert moved.sum() <= 8 < len(moved) and moved.sum() >= 6  # some steps are not taken
    assert 0 < metrics["accepted"] <= 1 and np.isfinite(metrics["energy_gap"])
    assert "memory" not in metrics


def test_chains_that_begin_at_the_data_leave_no_memory():
    before, (after, _) = stepped(starts="data")
    assert before["memory"] == after["memory"] == {}


def test_all_chains_restart_where_that_is_asked():
    """Then they are a few moves from the base, wherever the memory was."""
    before, (after, _) = stepped(restarts=1.0)
    shifted = {**before, "memory": {"chains": before["memory"]["chains"] + 50}}
    config = shapes.energy(restarts=1.0)
    x = np.zeros((8, 8, 8, 1), np.float32)
    step = jax.jit(functools.partial(family.update, config))
    moved, _ = step(shifted, {"image": x}, KEY, 0, np.float32(0))
    chains = moved["memory"]["chains"]
    assert ((np.abs(chains) < 10).all((1, 2, 3))).sum() == 8
    del after


@pytest.mark.parametrize("objective", ["noise_contrastive", "score_matching"])
def test_other_objectives_take_a_step(objective):
    _, (after, metrics) = stepped(objective=objective)
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    assert not family.limits(shapes.energy(objective=objective))
    assert after["memory"] == {}


def test_classes_are_learned_beside_the_density():
    _, (_, metrics) = stepped(num_classes=4)
    assert metrics["class_cost"] == pytest.approx(np.log(4), abs=0.5)


def test_the_ledger_counts_the_chains():
    short, long = (cost.ledger(shapes.energy(chain_steps=steps)).step_flops for steps in (2, 12))
    # A move evaluates the energy and its slope at two places.
    assert (long - short) / 10 == pytest.approx((short) / (2 + 1.5), rel=0.5)


def test_long_steps_are_a_divergence(tmp_path):
    config = shapes.energy(adjusted=False, step_size=1e4)
    config.data.folder = str(tmp_path / "data")
    config.train.steps = 20
    result = train(config, tmp_path / "run")
    assert result["status"] in ("failed", "diverged")
    assert set(result["failures"]) & {"chain_divergence", "not_finite"}
    fine = shapes.energy()
    fine.data.folder = str(tmp_path / "data")
    assert train(fine, tmp_path / "fine")["status"] == "finished"
    assert failures.found(fine, [{"energy_gap": 11.0}], {})["chain_divergence"]


def test_the_distance_of_samples_is_zero_of_one_distribution():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 400, 2, 2, 1)).astype(np.float32)
    rows = np.ones(400, np.float32)

    def distance(x, y, rows=rows):
        found = sample_distance.statistic(x, rows, y)
        return float(found["total"] / found["count"])

    assert abs(distance(x, y)) < 0.02 < 0.3 < distance(x, y + 1)
    few = rows * (np.arange(400) < 100)
    assert distance(np.where(few[:, None, None, None] > 0, x, 99), y, few) == pytest.approx(
        distance(x[:100], y, rows[:100]), abs=1e-4
    )


def test_the_distance_of_small_batches_is_right_on_average():
    """Pairs of an image with itself, which have no distance, are in no mean."""
    x, y = np.random.default_rng(0).normal(size=(2, 400, 5, 2, 2, 1)).astype(np.float32)
    of = jax.vmap(lambda x, y: sample_distance.statistic(x, jnp.ones(5), y)["total"] / 5)
    found = np.asarray(of(x, y))
    assert abs(found.mean()) < 4 * found.std() / 20 < 0.05  # a tenth of what such pairs would add


REFUSED = [
    ({}, SPEC, {"chain_steps": 0}, {}, "chain_steps=0: a chain of no steps"),
    ({}, SPEC, {"memory_rows": 4}, {}, "memory_rows=4 must be at least config.train.batch_size=8"),
    ({}, SPEC, {"restarts": 1.5}, {}, "restarts=1.5 must be a share"),
    ({}, SPEC, {"energy_decay": -1.0}, {}, "energy_decay=-1.0 must be at least 0"),
    ({}, SPEC, {"starts": "noise"}, {}, "starts='noise' is not one of memory, data"),
    ({}, SPEC, {"step_size": 0.0}, {}, "step_size=0.0 must be positive"),
    ({}, SPEC, {"noise": -1.0, "adjusted": False}, {}, "noise=-1.0 must be at least 0"),
    ({}, SPEC, {"noise": 0.5}, {}, "noise=0.5 must be 1.0 with adjusted=True"),
    ({"chain": "hmc"}, SPEC, {"leapfrog_steps": 0}, {}, "leapfrog_steps=0 must be at least 1"),
    ({}, SPEC, {"num_classes": 3}, {}, "num_classes=3 must be 0 or 4"),
    ({}, SPEC, {}, {"temperatures": 1}, "temperatures=1 must be at least 2"),
    ({}, SPEC, {}, {"chains": 1}, "chains=1 must be at least 2"),
    ({}, SPEC, {}, {"score_moves": 0}, "score_moves=0 must be at least 1"),
    ({"chain": "gibbs"}, SPEC, {}, {}, "chain='gibbs' is of levels, and the images are floats"),
    ({"energy": "rbm"}, SPEC, {}, {}, "energy='rbm' is of 2 levels, and the images have floats"),
    ({}, LEVELS, {"discrete": True, "levels": 2}, {}, "chain='langevin' goes along slopes"),
    (
        {"chain": "gibbs", "objective": "score_matching"}, LEVELS,
        {"discrete": True, "levels": 2}, {}, "objective='score_matching' follows slopes",
    ),
    (
        {"energy": "pairwise", "chain": "gibbs"}, LEVELS | {"shape": (5, 8, 1)},
        {"discrete": True, "levels": 2, "image_shape": (5, 8, 1)}, {}, "sides that are even",
    ),
    (
        {"chain": "gibbs"}, LEVELS | {"levels": 256}, {"discrete": True}, {},
        "levels=256: family 'energy' reads floats, or 2 levels",
    ),
    ({"objective": "score_matching"}, SPEC, {"noise_deviation": 0.0}, {}, "must be positive"),
]  # fmt: skip


@pytest.mark.parametrize("parts, spec, model, evaluation, message", REFUSED)
def test_what_cannot_be_is_refused_before_any_compile(parts, spec, model, evaluation, message):
    config = shapes.energy(**parts)
    config.model.update(model)
    config.evaluation.update(evaluation)
    with pytest.raises(UserError, match=message) as error:
        families.check(config, spec)
    assert "\n" not in str(error.value)


def test_tokens_and_samplers_without_moves_are_refused():
    config = shapes.energy()
    markov = defaults.config("energy", "markov")
    with pytest.raises(UserError, match="reads images"):
        families.check(config, data.outline(markov.data))
    config.sampling.moves = 0
    with pytest.raises(UserError, match="moves=0: a chain of no steps draws nothing"):
        families.check(config, SPEC)
