"""Every experiment that ships says what it asks and costs, and dry-runs; overrides win."""

from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import mixers
from research import config, cost, recipes, study
from research.__main__ import main
from research.dryrun import laptop
from research.scaling import laws

# All but the contest, which is what its recipes' studies are held to (tests/test_golf.py).
FILES = sorted(set(Path("experiments").glob("[!_]*.py")) - {Path("experiments/golf.py")})


@pytest.fixture
def flags(data_folder) -> list[str]:
    return [f"--config.data.folder={data_folder}"]


# Whose many shapes each take a second to count.
LARGE = (
    "recipe_text", "recipe_images", "shape_text", "vocabulary", "experts", "mixers",
    "length_generalisation", "pixel_resolutions", "emergence", "mixture_law", "pod_studies",
    "recipe_gain", "transfer", "diffusion_isoflop", "diffusion_choices",
    "denoising_or_next", "memorising", "denoisers", "patches",
)  # fmt: skip


def marked(file):
    return pytest.param(file, id=file.stem, marks=[pytest.mark.slow] * (file.stem in LARGE))


@pytest.mark.parametrize("file", [marked(file) for file in FILES if file.stem != "quickstart"])
def test_every_experiment_loads(file, monkeypatch):
    """With made-up FLOPs of a step: those of hundreds of networks take minutes to count."""
    monkeypatch.setattr(recipes, "_steps", lambda config: max(1, round(config.budget / 1e8)))
    assert_says_what_it_is(study.load(str(file), num_devices=1, prepared=False), file)


def assert_says_what_it_is(loaded, file):
    for word in ("Question:", "Cost:", "FLOPs", "minutes", "Expected"):
        assert word in loaded.docstring, f"{file} does not say its {word}"
    for group in loaded.groups:
        for trial in group:
            assert set(config.unfilled(trial.config)) <= {"config.size", "config.budget"}
            assert trial.steps_to_run > 0
            assert trial.branch_step in (0, *group[0].branches)


@pytest.mark.slow
def test_quickstart_is_the_study_it_claims_to_be(flags):
    """Sizes, spans, horizons and seeds, counted from the trials themselves."""
    loaded = study.load("experiments/quickstart.py", flags)
    assert_says_what_it_is(loaded, "quickstart")
    trials = loaded.trials
    for part, decades in (("text", 1.1), ("images", 1.1)):
        chosen = [trial for trial in trials if trial.config.part == part]
        horizons: dict[int, set] = {}
        for trial in chosen:
            horizons.setdefault(trial.config.size, set()).add(trial.config.train.steps)
        assert len(horizons) == 5
        least, most = (
            cost.ledger(next(t.config for t in chosen if t.config.size == size)).total_params
            for size in (min(horizons), max(horizons))
        )
        assert most / least >= 10**decades
        # The largest models have fewer: small budgets buy them too few steps to learn from.
        assert sum(len(steps) >= 3 for steps in horizons.values()) >= 4
        assert min(min(steps) for steps in horizons.values()) >= 150
        assert {trial.config.seed for trial in chosen} == {0, 1}
        assert len({trial.config.train.batch_size for trial in chosen}) == 1


@pytest.mark.slow
def test_steps_of_mixers_are_their_budgets():
    for trial in study.load("experiments/mixers.py", num_devices=1, prepared=False).trials:
        step = cost.ledger(trial.config).step_flops
        assert mixers.STEP_FLOPS[trial.config.arm][trial.config.size] == step
        assert trial.config.train.steps == round(trial.config.budget / step)


def test_the_law_of_mixtures_is_that_of_ye_at_one_compute():
    """c = E + A C^-alpha and k = B C^-alpha; another compute moves them by one factor."""
    law, ye = laws.get("experiments/mixture_law.py"), laws.mixture(2)
    given = {"E": 1.2, "A": 300.0, "B": 500.0, "alpha": 0.25, "t": -6.0}
    shares = np.array([0.0, 0.35, 1.0])
    for compute in (1e10, 16e10):
        loss = law.loss(given, C=np.full(3, compute), r=shares)
        fall = compute**-0.25
        own = {"c": 1.2 + 300 * fall, "k": 500 * fall, "t_1": -6.0}
        np.testing.assert_allclose(loss, ye.loss(own, r_1=shares), rtol=1e-6)


@pytest.mark.slow
def test_dry_run_prices_every_trial_and_runs_none(flags, data_folder, tmp_path, capsys):
    spec = "experiments/quickstart.py:markov"
    command = ["sweep", "--config", spec, "--workdir", str(tmp_path), "--dry_run", *flags]
    assert main([*command, "--config.data.tokens=20000"]) == 0
    printed = capsys.readouterr().out
    for trial in study.load(spec, flags).trials:
        assert trial.id in printed
    assert "12 trials" in printed and "minutes with 2 workers" in printed
    assert not list(tmp_path.iterdir())


def test_a_branch_pays_its_cooldown_only(flags):
    loaded = study.load("experiments/quickstart.py:markov", flags)
    trunk, *branches = loaded.groups[0]
    alone = sum(trial.config.train.steps for trial in branches)
    shared = sum(trial.steps_to_run for trial in loaded.groups[0])
    assert shared < 0.85 * alone  # two fifths of each are the trunk's
    assert laptop.work(trunk.config).memory > laptop.PROCESS_BYTES


def test_flags_win_over_axes_and_recipe(flags):
    more = [*flags, "--config.model.depth=3", "--config.train.learning_rate=0.001"]
    for trial in study.load("experiments/quickstart.py:markov", more).trials:
        assert trial.config.model.depth == 3 and trial.config.train.learning_rate == 0.001


def test_a_config_survives_its_json(flags):
    original = study.load_config("experiments/quickstart.py:images", flags, prepared=False)
    again = config.from_plain(config.to_plain(original))
    assert isinstance(again, ConfigDict) and again.to_dict() == original.to_dict()
    changed = config.to_plain(original)
    changed["train"]["steps"] += 1
    steps = original.train.steps
    assert config.difference(config.to_plain(original), changed) == [
        f"train.steps: {steps}, now {steps + 1}"
    ]
