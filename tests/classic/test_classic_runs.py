"""Classics as runs: golden steps, meshes, checkpoints, recipes, the ledger, and what is refused."""

import functools
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from research import cost, data, defaults, failures, families, programs, recipes
from research.errors import UserError
from research.families import classic
from research.run import checkpoint
from research.train import train
from tests import shapes

KINDS = [*classic.KINDS, "diagonal"]


def config_of(kind, folder="data", **model):
    if kind == "diagonal":
        kind, model = "mixture", {"covariance": "diagonal"} | model
    config = shapes.classic(kind, **model)
    config.data.folder = str(folder)
    return config


def losses(config, program, state, first, steps):
    """The state after `steps` steps from the step `first` on, and what each measured."""
    source, rows = data.load(config.data, "train"), []
    batches = data.batches(source, config.train.batch_size, 0, start_step=first)
    for index in range(first, first + steps):
        batch = jax.device_put(next(batches), program.batch)
        given = (jax.random.key(0), np.int32(index), np.float32(1))
        state, metrics = program.step(state, batch, *given)
        rows.append([float(each) for each in metrics.values()])
    return state, np.array(rows)


@pytest.fixture(scope="module")
def stepped(data_folder):
    """Of each kind its config, its programs, and what the first steps measure on one device."""

    @functools.cache
    def found(kind):
        config = config_of(kind, data_folder)
        program = programs.build(config, jax.devices()[:1])
        return config, program, *losses(config, program, program.init(jax.random.key(0)), 0, 4)

    return found


GOLDEN = {
    "mixture": [0.9585765, 1.556975, 0.8499506],
    "ppca": [1.200636, 3.580314, 0.8757346],
    "hidden_markov": [3.565199, 2.933457, 2.85653],
    "ngram": [3.119162, 2.682442, 2.663124],
    "grammar": [3.475214, 3.121179, 3.052701],
    "naive_bayes": [5.61539, 3.513183, 3.228306],
    "diagonal": [0.9585765, 1.479125, 1.081956],
}


@pytest.mark.parametrize("kind", KINDS)
def test_golden_steps(stepped, kind):
    """A difference here means that initialisation, data order or a step of EM changed."""
    np.testing.assert_allclose(stepped(kind)[3][:3, 0], GOLDEN[kind], rtol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_eight_devices_equal_one(stepped, kind):
    config, _, state, rows = stepped(kind)
    config = config.copy_and_resolve_references()
    config.hardware.mesh.update(data=4, fsdp=2)
    program = programs.build(config)
    other, many = losses(config, program, program.init(jax.random.key(0)), 0, 4)
    np.testing.assert_allclose(many, rows, rtol=2e-5)
    del state, other


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_same_to_the_last_bit(stepped, kind, tmp_path):
    config, program, state, _ = stepped(kind)
    half, _ = losses(config, program, program.init(jax.random.key(0)), 0, 2)
    with checkpoint.writer(tmp_path / "checkpoints") as checkpoints:
        checkpoint.save(checkpoints, 2, half, {})
    restored, _ = checkpoint.restore(checkpoint.reader(tmp_path / "checkpoints"), 2, program.state)
    resumed, _ = losses(config, program, restored, 2, 2)
    for one, other in zip(*map(jax.tree.leaves, (state, resumed)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_micro_batches_are_the_batch(stepped):
    config, _, _, rows = stepped("hidden_markov")
    config = config.copy_and_resolve_references()
    config.hardware.accumulation = 4
    program = programs.build(config, jax.devices()[:1])
    _, parts = losses(config, program, program.init(jax.random.key(0)), 0, 4)
    np.testing.assert_allclose(parts, rows, rtol=1e-5)


def test_a_component_without_data_is_a_failure(data_folder):
    """One that lies where no image is has no share of them after a step, and is named."""
    config = config_of("mixture", str(data_folder), pseudo_count=1e-3)
    params = classic.init(config, jax.random.key(0))
    state = {"params": params, "opt_state": classic.init_optimizer(config, params)}
    image = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    step = jax.jit(functools.partial(classic.update, config))
    for away, dead in ((0.0, False), (1e3, True)):
        moved = params | {"mean": 0 * params["mean"] + away * np.eye(3, 1)}
        given = {**state, "params": moved}
        _, metrics = step(given, {"image": image}, jax.random.key(0), np.int32(1), np.float32(0))
        row = {"smallest_share": float(metrics["smallest_share"])}
        assert ("dead_component" in failures.found(config, [row], {})) == dead
    assert not failures.found(config, [{"smallest_share": 0.2}], {})
    found = failures.found(config, [{"smallest_share": 0.001}], {})
    assert "one has no data left" in found["dead_component"]["reason"]
    assert not families.load("classic").limits(config_of("ngram"))  # has no components


@pytest.mark.parametrize("kind", ["hidden_markov", "ngram", "mixture"])
def test_a_run_is_trained_scored_and_sampled(kind, data_folder, tmp_path):
    config = config_of(kind, data_folder)
    result = train(config, tmp_path / "run")
    assert result["status"] == "finished"
    assert result["score"]["kind"] == "exact" and np.isfinite(result["score"]["value"])
    assert result["score"]["unit"] == ("bits/dim" if kind == "mixture" else "bits/token")
    saved = checkpoint.restore_newest(
        checkpoint.reader(tmp_path / "run" / "checkpoints"), programs.build(config).state
    )
    assert saved is not None
    drawn = families.load("classic").sample(config, saved[1]["params"], jax.random.key(0), 2)
    assert drawn.shape == ((2, 8, 8, 1) if kind == "mixture" else (2, 8))


B, D, K = 8, 64, 3
FLOPS = {  # of a step, as the kinds' docstrings say
    "mixture": 4 * B * K * D**2 + 4 * B * K * D,
    "diagonal": 6 * B * K * D,
    "ppca": 2 * B * D * K + 2 * B * D**2,
    "hidden_markov": 6 * B * 8 * K**2,
    "ngram": 0,
    "grammar": 3 * B * sum((9 - n) * (2 * (n - 1) * K**2 + 2 * K**3) for n in range(2, 9)),
    "naive_bayes": 4 * B * D * 256 * K,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_counts_what_the_docstring_says(kind):
    assert cost.ledger(config_of(kind)).step_flops == FLOPS[kind]


def sized(kind, **keys):
    """A config of the kind, of a size and a budget, by the recipe `ladder`."""
    config = config_of(kind)
    fresh = defaults.config("classic", config.data.name, kind=config.model.kind)
    fresh.data.update(config.data)
    if "image_shape" in fresh.model:
        fresh.model.update(image_shape=(8, 8, 1), discrete=config.model.discrete)
    fresh.update(keys)
    return fresh


def test_a_size_and_a_budget_make_a_run():
    config = recipes.apply(sized("hidden_markov", size=4, budget=1e7))
    assert config.model.width == 4 and config.train.batch_size == 16
    assert config.train.steps == round(1e7 / (6 * 16 * 8 * 4**2))


def test_what_only_counts_has_no_budget_and_no_size():
    with pytest.raises(UserError, match="config.model.width, which family 'classic' does not have"):
        recipes.apply(sized("ngram", size=4, budget=1e7))
    counting = sized("ngram", recipe="fixed", budget=1e7)
    counting.train.batch_size = 8
    with pytest.raises(UserError, match="buys no number of steps.* set config.train.steps"):
        recipes.apply(counting)


REFUSED = [
    ("mixture", "markov", {}, "reads images, such as gaussian_mixture.*gives tokens"),
    ("ppca", "markov", {}, "reads images.*gives tokens"),
    ("naive_bayes", "markov", {}, "reads images.*gives tokens"),
    ("naive_bayes", "gaussian_mixture", {}, "gives floats.* counts levels"),
    ("ngram", "gaussian_mixture", {}, "'ngram' reads tokens.*gives images"),
    ("hidden_markov", "glyphs", {}, "'hidden_markov' reads tokens.*gives images"),
    ("grammar", "glyphs", {}, "'grammar' reads tokens.*gives images"),
    ("ngram", "markov", {"model.order": 7}, r"order=7 must be from 1 to 6: .* 16\^7 prob"),
    ("ngram", "markov", {"model.order": 0}, "order=0 must be at least 1"),
    ("hidden_markov", "markov", {"model.width": 0}, "width=0 must be at least 1"),
    ("hidden_markov", "markov", {"model.kappa": 1.5}, "kappa=1.5 must be from 0"),
    ("hidden_markov", "markov", {"model.pseudo_count": -1.0}, "must not be negative"),
    ("hidden_markov", "markov", {"train.ema_decay": 0.9}, "ema_decay=0.9 must be 0.0"),
    ("grammar", "markov", {"data.length": 33}, "length=33 must be at most 32"),
    ("ppca", "gaussian_mixture", {"model.width": 64}, "width=64 must be below the 64 dimensions"),
    ("mixture", "gaussian_mixture", {"model.width": 9}, "batch_size=8 must be at least .*width=9"),
    ("mixture", "gaussian_mixture", {"model.covariance": "ful"}, "not one of full, diagonal"),
    ("mixture", "gaussian_mixture", {"model.least_variance": 0.0}, "0.0 must be positive"),
    ("mixture", "gaussian_mixture", {"model.discrete": True}, "discrete=True must be False"),
    ("mixture", "gaussian_mixture", {"model.image_shape": (4, 4, 1)}, r"must be \(8, 8, 1\)"),
    ("naive_bayes", "glyphs", {"model.labels": True}, r"width=3 must be \d+, the classes of"),
    ("naive_bayes", "glyphs", {"model.levels": 2}, "levels=2 must be 256"),
]


@pytest.mark.parametrize("kind, source, changes, words", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(kind, source, changes, words):
    config = config_of(kind)
    of_source = {"markov": "ngram", "gaussian_mixture": "ppca", "glyphs": "naive_bayes"}[source]
    config.data = config_of(of_source).data
    if source != "markov" and "image_shape" in config.model:
        config.model.discrete = source == "glyphs"
    for key, value in changes.items():
        section, _, own = key.partition(".")
        config[section][own] = value
    with pytest.raises(UserError, match=words) as error:
        families.check(config, data.outline(config.data))
    assert "\n" not in str(error.value) and re.match("config", str(error.value))


def test_an_unknown_kind_names_the_nearest():
    config = config_of("ngram")
    with pytest.raises(UserError, match="'ngrams' is not one of .*did you mean 'ngram'"):
        defaults.override(config, ["--config.model.kind=ngrams"])


def followed(kind, folder: Path, steps: int, **changes):
    """The score of a run, and the floor of its data."""
    config = config_of(kind, str(folder / "data"))
    config.train.update(steps=steps, batch_size=changes.pop("batch_size"))
    config.data.update(changes.pop("data"))
    config.model.update(changes)
    config.evaluation.examples, config.log_steps = 2048, steps
    result = train(config, folder / kind)
    return result["score"]["value"], data.load(config.data, "validation").floor


@pytest.mark.slow
def test_a_mixture_of_full_covariances_approaches_the_floor_of_its_source(tmp_path):
    of_data = dict(resolution=4, components=3, images=8000, validation_images=2048)
    found, floor = followed(
        "mixture", tmp_path, 100, batch_size=256, data=of_data, image_shape=(4, 4, 1), width=6
    )
    assert floor is not None
    assert -0.005 < found - floor["value"] < 0.03


@pytest.mark.slow
def test_an_ngram_approaches_the_entropy_of_a_chain(tmp_path):
    of_data = dict(tokens=80_000, vocab_size=4, order=2)
    found, floor = followed("ngram", tmp_path, 150, batch_size=64, data=of_data)
    assert floor is not None
    assert abs(found - floor["sample_value"]) < 0.01


@pytest.mark.slow
def test_baum_welch_approaches_the_entropy_of_a_hidden_markov_chain(tmp_path):
    """With a state more than the truth has, which emits what opens a window."""
    config = config_of("hidden_markov", str(tmp_path / "data"))
    truth = defaults.config("classic", "hidden_markov", kind="hidden_markov").data
    truth.update(length=32, vocab_size=5, states=3, tokens=200_000, validation_tokens=20_000)
    truth.folder, config.data = config.data.folder, truth
    config.model.width = 4
    config.train.update(steps=300, batch_size=64)
    config.evaluation.update(examples=600, evaluators=("validation", "excess"))
    result = train(config, tmp_path / "run")
    assert -0.001 < result["scores"]["excess"]["value"] < 0.02
