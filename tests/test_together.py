"""Runs that train as one program: each is the run it would have been alone, up to rounding."""

import signal

import numpy as np
import pytest

from launch import local
from research import defaults, recipes, study, together
from research import train as training
from research.__main__ import main
from research.errors import Interrupted
from research.run import lease, record
from research.run.stop import Stop
from research.train import course, train
from tests import shapes, tiny

RUNS = ((0, 1e-2), (1, 1e-2), (0, 3e-3))  # (seed, peak rate)
CLOSE = 2e-5  # of losses and scores over ten steps, relative: sums of a batched product


def game():
    config = defaults.config("tests.toys.two_player", "gaussian_mixture")
    config.recipe, config.model.sides = "fixed", (8, 8, 1)
    config.data.update(resolution=8, images=200, validation_images=64)
    config.train.update(steps=10, batch_size=8, warmup_steps=1)
    config.evaluation.update(batch_size=8, examples=16)
    config.log_steps = 1
    return config


def bigrams():
    config = defaults.config("tests.tiny", "markov")
    config.recipe, config.log_steps = "fixed", 1
    config.data.update(length=16, vocab_size=8, order=1, tokens=4_000, validation_tokens=400)
    config.model.update(vocab_size=8, width=8, depth=1, num_heads=1)
    config.train.update(steps=10, batch_size=8, warmup_steps=2, ema_decay=0.9)
    config.evaluation.update(batch_size=8, examples=16)
    return config


def several(config, folder, runs=RUNS, **settings):
    found = []
    for seed, rate in runs:
        own = config.copy_and_resolve_references()
        own.data.folder, own.seed, own.train.learning_rate = str(folder), seed, rate
        own.train.update(settings)
        found.append(recipes.apply(own))
    return found


def side_by_side(configs, folder):
    with Stop() as asked:
        courses = [course(c, folder / f"{i}", asked=asked) for i, c in enumerate(configs)]
        return together.together(courses)


def same(alone, side, close=CLOSE):
    """Config, result and rows, but for rounding and time, and what a checkpoint holds."""
    one, other = tiny.result(alone), tiny.result(side)
    scores = [each.pop("score")["value"] for each in (one, other)]
    losses = [each.pop("train_loss") for each in (one, other)]
    assert one.pop("scores").keys() == other.pop("scores").keys()
    assert one == other
    assert record.read_json(alone / "config.json") == record.read_json(side / "config.json")
    ours, theirs = tiny.rows(alone), tiny.rows(side)
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    values = [[row[key] for row in rows for key in sorted(row)] for rows in (ours, theirs)]
    assert tiny.state(alone).keys() == tiny.state(side).keys()
    if one["status"] == "finished":
        for pair in (scores, losses, values):
            np.testing.assert_allclose(*pair, rtol=close)


SLOW = pytest.mark.slow  # a network is compiled twice, alone and side by side


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(shapes.autoregressive, id="autoregressive", marks=SLOW),
        pytest.param(shapes.diffusion, id="diffusion", marks=SLOW),
        pytest.param(game, id="game", marks=SLOW),
        pytest.param(bigrams, id="bigrams"),
    ],
)
def test_each_run_is_the_run_it_is_alone(config, tmp_path, data_folder):
    configs = several(config(), data_folder)
    side_by_side(configs, tmp_path / "side")
    for index, own in enumerate(configs):
        train(own, tmp_path / "alone" / f"{index}")
        same(tmp_path / "alone" / f"{index}", tmp_path / "side" / f"{index}")
    ends = [tiny.rows(tmp_path / "side" / f"{index}")[-1]["loss"] for index in range(len(RUNS))]
    assert len(set(ends)) == len(RUNS)


def test_one_that_ends_or_diverges_leaves_the_others_alone(tmp_path, data_folder):
    configs = several(bigrams(), data_folder, runs=(*RUNS, (2, 1e-2)))
    configs[0].train.steps = 3  # the others go on at once, and after two have left as two
    configs[1].train.learning_rate = float("nan")
    results = side_by_side(configs, tmp_path / "side")
    assert [r and r["status"] for r in results] == ["finished", "diverged", *["finished"] * 2]
    for index, own in enumerate(configs):
        train(own, tmp_path / "alone" / f"{index}")
        same(tmp_path / "alone" / f"{index}", tmp_path / "side" / f"{index}")


def test_a_run_that_is_held_is_left_to_its_holder(tmp_path, data_folder):
    configs = several(bigrams(), data_folder)
    with lease.holding(tmp_path / "side" / "1"):
        results = side_by_side(configs, tmp_path / "side")
    assert [bool(result) for result in results] == [True, False, True]
    assert not (tmp_path / "side" / "1" / "result.json").exists()


def test_stopped_together_they_go_on_alone_and_together(tmp_path, data_folder, monkeypatch):
    configs, original = several(bigrams(), data_folder), training.optim.learning_rate

    def poisoned(settings, step):
        if step == 5:
            signal.raise_signal(signal.SIGTERM)
        return original(settings, step)

    monkeypatch.setattr(training.optim, "learning_rate", poisoned)
    with pytest.raises(Interrupted):
        side_by_side(configs, tmp_path / "side")
    monkeypatch.setattr(training.optim, "learning_rate", original)
    saved = {i: tiny.steps(tmp_path / "side" / f"{i}") for i in range(len(RUNS))}
    assert all(len(steps) == 1 and max(steps) in (5, 6) for steps in saved.values()), saved
    train(configs[1], tmp_path / "side" / "1")  # one by itself, then those that are left
    side_by_side(configs, tmp_path / "side")
    for index, own in enumerate(configs):
        train(own, tmp_path / "alone" / f"{index}")
        same(tmp_path / "alone" / f"{index}", tmp_path / "side" / f"{index}")


def test_an_error_of_one_frees_the_folders_of_all(tmp_path, data_folder, monkeypatch):
    configs = several(bigrams(), data_folder)

    def broken(*_, **__):
        raise RuntimeError("planted")

    monkeypatch.setattr(training.evaluation, "final", broken)
    with pytest.raises(RuntimeError, match="planted"):
        side_by_side(configs, tmp_path / "side")
    for index in range(len(RUNS)):
        lease.take(tmp_path / "side" / f"{index}").release()


@pytest.mark.slow
def test_a_sweep_trains_trunks_side_by_side_and_then_their_branches(tmp_path, monkeypatch):
    trials = [
        {"size": 8, "train.steps": steps, "seed": seed, "train.learning_rate": rate}
        for steps in (12, 18)
        for seed, rate in RUNS
    ]
    loaded = study.load(tiny.write(tmp_path, trials))
    monkeypatch.setattr(local.runtime, "prepare", lambda folder: None)
    widths, original = [], together.together
    monkeypatch.setattr(
        together, "together", lambda courses: widths.append(len(courses)) or original(courses)
    )
    local.work(loaded, tmp_path / "side" / "tiny", batch=8)
    assert widths == [3, 3, 3]  # trunks, and two branches of each
    local.work(loaded, tmp_path / "alone" / "tiny")
    sides = [tiny.left(tmp_path / name / "tiny") for name in ("alone", "side")]
    assert sides[0].keys() == sides[1].keys()
    for name in sides[0]:
        for what in ("checkpoints", "files"):
            assert sides[0][name][what] == sides[1][name][what]
        losses = [[row["loss"] for row in side[name]["rows"]] for side in sides]
        np.testing.assert_allclose(*losses, rtol=CLOSE)


def test_bundles_are_of_one_shape_and_no_larger_than_asked(tmp_path):
    trials = [{"size": size, "seed": seed} for size in (8, 16) for seed in range(3)]
    groups = study.load(tiny.write(tmp_path, trials)).groups
    for most, sizes in ((1, [1] * 6), (2, [2, 1, 2, 1]), (8, [3, 3])):
        bundles = local._abreast(groups, most)
        assert [len(bundle) for bundle in bundles] == sizes
        assert all(len({group[0].config.size for group in bundle}) == 1 for bundle in bundles)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "0"], "--batch 0 must be at least 1"),
        (["--batch", "2", "--processes", "2"], "drop --processes"),
        (["--batch", "2", "--profile_steps", "1:2"], "drop --profile_steps"),
        (["--batch", "2", "--render"], "drop --render"),
        (["--batch", "2", "--backend", "slurm"], "an option of --backend local"),
    ],
)
def test_what_a_batch_cannot_go_with(tmp_path, capsys, words, said):
    command = ["sweep", "--config", tiny.write(tmp_path), "--workdir", str(tmp_path)]
    assert main([*command, *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1, err
