"""A study that grows runs what is new, and ends as if it had been asked for at once."""

import os
from pathlib import Path

import pytest

from launch import local
from research import growth, programs, study
from research.__main__ import main
from research.dryrun import laptop
from research.errors import Interrupted, UserError
from research.run import stop
from research.train import train
from tests import tiny

AXES = {steps: {"size": 16, "train.steps": steps} for steps in (12, 14, 15, 18, 19, 25)}
TRUNK = "chain-size16-trunk"


def load(folder: Path, trials: list[dict], *flags: str) -> study.Study:
    return study.load(tiny.write(folder, trials), flags)


def run(loaded: study.Study, root: Path) -> Path:
    """Sweep in this process."""
    folder = root / loaded.name
    study.check_folder(loaded, folder)
    study.write_description(loaded, folder)
    local.finish(loaded.name, loaded.groups, folder)
    return folder


def numbers(left: dict) -> dict:
    """What `tiny.left` found but for the samples, which the longest trial of the day has."""
    return {
        name: {key: run[key] for key in run if key not in ("samples", "files")}
        for name, run in left.items()
    }


@pytest.fixture
def steps(monkeypatch):
    """The steps that are trained, in order."""
    seen, build = [], programs.build

    def counted(config, *devices):
        program = build(config, *devices)

        def step(state, batch, key, index, rate):
            seen.append(int(index))
            return program.step(state, batch, key, index, rate)

        return program._replace(step=step)

    monkeypatch.setattr(programs, "build", counted)
    return seen


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """What studies of these horizons leave, each asked for at once in a folder of its own."""
    cache, home = {}, tmp_path_factory.mktemp("at_once")

    def ask(*horizons: int) -> dict:
        if horizons not in cache:
            root = home / "-".join(map(str, horizons))
            folder = run(load(home, [AXES[steps] for steps in horizons]), root)
            cache[horizons] = tiny.left(folder)
        return cache[horizons]

    return ask


@pytest.mark.slow
def test_a_longer_budget(tmp_path, at_once, steps):
    """The trunk goes on from its end at 14, off the raster of the saves, to 20."""
    run(load(tmp_path, [AXES[12], AXES[18]]), tmp_path)
    steps.clear()
    folder = run(load(tmp_path, [AXES[12], AXES[18], AXES[25]]), tmp_path)
    assert steps == [*range(14, 20), *range(20, 25)]
    assert numbers(tiny.left(folder)) == numbers(at_once(12, 18, 25))


def test_an_end_off_the_raster_of_the_rows(tmp_path, at_once):
    """A run's last row is written at its end; the longer trunk has none there."""
    folder = run(load(tmp_path, [AXES[12], AXES[18]], "--config.log_steps=4"), tmp_path)
    assert [row["step"] for row in tiny.rows(folder / TRUNK)] == [4, 8, 12, 14]
    grown = load(tmp_path, [AXES[12], AXES[18], AXES[25]], "--config.log_steps=4")
    assert [row["step"] for row in tiny.rows(run(grown, tmp_path) / TRUNK)] == [4, 8, 12, 16, 20]


@pytest.mark.slow
def test_a_budget_between(tmp_path, at_once, steps):
    """The trunk has the states of 10 and 14: that of 12 is made again from 10's, and no more."""
    folder = run(load(tmp_path, [AXES[12], AXES[18]]), tmp_path)
    os.rename(folder / TRUNK / "checkpoints" / "12", tmp_path / "12")
    steps.clear()
    run(load(tmp_path, [AXES[12], AXES[15], AXES[18]]), tmp_path)
    assert steps == [10, 11, 12, 13, 14]
    assert numbers(tiny.left(folder)) == numbers(at_once(12, 15, 18))


def test_a_budget_below_all(tmp_path, at_once, steps):
    folder = run(load(tmp_path, [AXES[18], AXES[25]]), tmp_path)
    steps.clear()
    run(load(tmp_path, [AXES[12], AXES[18], AXES[25]]), tmp_path)
    assert steps == [*range(12)]  # 10 of the trunk, 2 of the cooldown
    assert numbers(tiny.left(folder)) == numbers(at_once(12, 18, 25))


def test_a_cooldown_from_the_first_step(tmp_path, steps):
    """It needs no state of its trunk."""
    whole = {**AXES[12], "train.warmup_steps": 0, "train.decay_steps": 12}
    other = {**AXES[18], "train.warmup_steps": 0, "train.decay_steps": 8}
    run(load(tmp_path, [whole, other]), tmp_path)
    assert steps == [*range(10), *range(12), *range(10, 18)]


def test_shrunk_and_grown_again(tmp_path, steps, capsys):
    loaded = load(tmp_path, [AXES[12], AXES[18], AXES[25]])
    folder = run(loaded, tmp_path)
    before = numbers(tiny.left(folder))
    steps.clear()
    small = load(tmp_path, [AXES[12]])
    run(small, tmp_path)
    study.say_former(small, folder)
    said = "2 trials left the axes and stay as they are, in fits and reports too: chain-size16-s"
    assert said in capsys.readouterr().err
    run(loaded, tmp_path)
    assert study.former(loaded, folder) == [] and steps == []
    assert numbers(tiny.left(folder)) == before


def test_a_run_alone_gets_a_trunk_beside_it(tmp_path, at_once, steps):
    """It is the same run from step 0, and stays; the trunk goes only where the new trial needs."""
    folder = run(load(tmp_path, [AXES[25]]), tmp_path)
    before = tiny.left(folder)["chain-size16-steps25"]
    steps.clear()
    run(load(tmp_path, [AXES[12], AXES[25]]), tmp_path)
    assert steps == [*range(12)]
    found, wanted = tiny.left(folder), at_once(12, 25)
    assert found["chain-size16-steps25"] == before
    for key in ("result", "rows", "state"):
        assert found["chain-size16-steps12"][key] == wanted["chain-size16-steps12"][key]
    assert before["state"] == wanted["chain-size16-steps25"]["state"]
    assert before["result"]["score"] == wanted["chain-size16-steps25"]["result"]["score"]


def test_alone_or_shared_half_way(tmp_path, monkeypatch):
    """A run that began alone goes on alone, and one that left a trunk says so when it is alone."""
    alone, shared = (load(tmp_path, [AXES[s] for s in each]) for each in ((25,), (12, 25)))
    stopped_at(
        monkeypatch, 6, alone.trials[0].config, tmp_path / "a" / "tiny" / "chain-size16-steps25"
    )
    folder = run(shared, tmp_path / "a")
    result = tiny.result(folder / "chain-size16-steps25")
    assert result["trunk"] is None and result["flops_spent"] == result["flops"]
    assert [row["step"] for row in tiny.rows(folder / "chain-size16-steps25")][:2] == [2, 4]


def stopped_at(monkeypatch, step: int, config, folder: Path, **options) -> None:
    """Train until the step at which the process is asked to stop."""
    build = programs.build

    def asking(config, *devices):
        program = build(config, *devices)

        def asked(state, batch, key, index, rate):
            if index == step - 1:
                os.kill(os.getpid(), 15)
            return program.step(state, batch, key, index, rate)

        return program._replace(step=asked)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(programs, "build", asking)
        train(config, folder, **options)


def test_an_interrupted_trunk_goes_on_further(tmp_path, at_once, monkeypatch):
    loaded = load(tmp_path, [AXES[12], AXES[18]])
    trunk, folder = loaded.groups[0][0], tmp_path / "tiny"
    labels = {"id": TRUNK, "study": "tiny", "part": "chain"}
    stopped_at(
        monkeypatch, 11, trunk.config, folder / TRUNK, branches=trunk.branches, labels=labels
    )
    run(load(tmp_path, [AXES[12], AXES[18], AXES[25]]), tmp_path)
    assert numbers(tiny.left(folder)) == numbers(at_once(12, 18, 25))


QUICK = "before the new config comes"
KILLS = {
    "before the old result goes": tiny.poison(
        "os.unlink", "str(args[0]).endswith('trunk/result.json')"
    ),
    "before the new config comes": tiny.poison(
        "os.replace", "str(args[1]).endswith('trunk/config.json')"
    ),
    "before the new end is saved": tiny.poison("research.run.checkpoint.save", "args[1] == 20"),
    "before a state is saved again": tiny.poison("research.run.checkpoint.save", "args[1] == 11"),
}


GROWN = [AXES[12], AXES[14], AXES[19], AXES[25]]


def worker(home: Path, trials: list[dict], kill: str = "") -> Path:
    """Sweep in a process of its own, which has one device; it dies where `kill` says."""
    code, *_ = tiny.worker(tiny.write(home, trials, poison=kill), home / "tiny")
    assert code == (-9 if kill else 0)
    return home / "tiny"


@pytest.fixture(scope="module")
def grown_at_once(tmp_path_factory):
    return numbers(tiny.left(worker(tmp_path_factory.mktemp("grown"), GROWN)))


@pytest.mark.parametrize(
    "name", [n if n == QUICK else pytest.param(n, marks=pytest.mark.slow) for n in KILLS]
)
def test_killed_while_the_trunk_grows(tmp_path, grown_at_once, name):
    """The old trunk ends at 15, with a row there that the longer one has not."""
    worker(tmp_path, [AXES[12], AXES[19]])
    worker(tmp_path, GROWN, KILLS[name])
    assert numbers(tiny.left(worker(tmp_path, GROWN))) == grown_at_once


def test_a_replay_is_stopped_and_goes_on(tmp_path, at_once, monkeypatch, steps):
    folder = run(load(tmp_path, [AXES[18], AXES[25]]), tmp_path)
    grown = load(tmp_path, [AXES[12], AXES[18], AXES[25]])
    asked = iter([0] * 6 + [15])
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="step 7 of 10, saved"):
        patch.setattr(stop.Stop, "asked", property(lambda _: next(asked, 0)))
        growth.replay(grown.groups[0][0].config, folder / TRUNK, [10])
    steps.clear()
    run(grown, tmp_path)
    assert steps == [7, 8, 9, 10, 11]
    found, wanted = numbers(tiny.left(folder)), numbers(at_once(12, 18, 25))
    assert set(found[TRUNK].pop("checkpoints")) >= set(wanted[TRUNK].pop("checkpoints"))
    assert found == wanted


def test_what_no_number_depends_on_may_change(tmp_path, steps):
    folder = run(load(tmp_path, [AXES[12], AXES[18]]), tmp_path)
    steps.clear()
    flags = ("--config.log_steps=3", "--config.checkpoint.keep=3", "--config.sampling.num=0")
    run(load(tmp_path, [AXES[12], AXES[18]], *flags), tmp_path)
    assert steps == [] and folder.exists()


@pytest.mark.parametrize(
    "flag, key",
    [
        ("--config.train.learning_rate=0.5", "train.learning_rate: 0.016, now 0.5"),
        ("--config.model.vocab_size=9", "model.vocab_size: 8, now 9"),
        ("--config.train.decay_steps=3", "train.decay_steps: 2, now 3"),
        ("--config.hardware.compute_dtype=bfloat16", "hardware.compute_dtype: float32, now bfl"),
    ],
)
def test_the_refusal_names_what_the_user_changed(tmp_path, flag, key):
    trials = [{"size": 16, "train.steps": 12}]
    loaded, changed = load(tmp_path, trials), load(tmp_path, trials, flag)
    train(loaded.trials[0].config, tmp_path / "tiny" / loaded.trials[0].id)
    with pytest.raises(UserError, match=f"another config .{key}"):
        study.check_folder(changed, tmp_path / "tiny")


@pytest.mark.slow
def test_the_refusal_names_no_key_that_followed(tmp_path):
    """A size gives width, depth, rate and steps; only the size is named, and the budget alike."""
    path = Path(tiny.write(tmp_path, [{"seed": 0}]))
    path.write_text(
        path.read_text().replace(
            "config.train.steps = part, 16, 25", "config.budget = part, 16, 1e6"
        )
    )
    loaded = study.load(str(path))
    train(loaded.trials[0].config, tmp_path / "tiny" / "chain-seed0")
    for flag, said in [
        ("size=64", r"\(size: 16, now 64\)"),
        ("budget=2e6", r"\(budget: 1.*, now 2"),
    ]:
        with pytest.raises(UserError, match=said):
            study.check_folder(study.load(str(path), [f"--config.{flag}"]), tmp_path / "tiny")


def test_a_dry_run_shows_what_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(laptop, "table", lambda loaded, workers: " ".join(shown(loaded)))
    run(load(tmp_path, [AXES[12], AXES[18]]), tmp_path)
    tiny.write(tmp_path, [AXES[12], AXES[18], AXES[25]])
    words = ["sweep", "--config", str(tmp_path / "tiny.py"), "--workdir", str(tmp_path)]
    assert main([*words, "--dry_run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2].endswith(f"2 of 3 trials are finished in {tmp_path / 'tiny'}")
    assert said[-1] == "chain-size16-trunk:14-20 chain-size16-steps25:20-25"
    run(load(tmp_path, [AXES[12], AXES[18], AXES[25]]), tmp_path)
    assert main([*words, "--dry_run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "tiny: nothing to run"
    assert main([*words, "--dry_run", "--config.train.b1=0.5"]) == 0
    said = capsys.readouterr()
    assert "holds a run of another config (train.b1: 0.9, now 0.5)" in said.err
    assert len(said.out.split()) == 4


def shown(loaded: study.Study) -> list[str]:
    trials = [trial for group in loaded.groups for trial in group]
    return [f"{t.id}:{t.branch_step}-{t.config.train.steps}" for t in trials]
