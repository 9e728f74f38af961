"""A trial's id says what is run: whatever set a key, and however close two values are."""

import numpy as np
import pytest

from research import study
from research.errors import UserError
from tests import tiny


def ids(folder, trials: list[dict], *flags: str) -> list[str]:
    return [trial.id for trial in study.load(tiny.write(folder, trials), flags).trials]


SIZES = [{"size": size, "train.steps": steps} for size in (8, 16, 32) for steps in (12, 18)]


def test_a_flag_over_an_axis_is_in_the_id_and_runs_once(tmp_path):
    spec = tiny.write(tmp_path, SIZES)
    loaded = study.load(spec, ["--config.size=8"])
    assert [trial.id for trial in loaded.trials] == ["chain-size8-steps12", "chain-size8-steps18"]
    assert {trial.config.model.width for trial in loaded.trials} == {8}
    assert loaded.parts["chain"]["trials"] == 2
    (note,) = loaded.notes
    assert note.startswith("chain: 6 trials are 2 with --config.size=8")
    assert study.load(spec, ["--config.train.b1=0.8"]).notes == ()
    seeds = [{"size": 8, "seed": seed} for seed in (0, 1)]
    assert ids(tmp_path, seeds, "--config.seed=1") == ["chain-size8-seed1"]
    assert ids(tmp_path, seeds) == ["chain-size8-seed0", "chain-size8-seed1"]


def test_steps_given_by_hand_are_no_budget(tmp_path):
    budgets = [{"size": 8, "budget": budget} for budget in (1e8, 2e8)]
    path = tiny.write(tmp_path, budgets)
    text = (
        (tmp_path / "tiny.py")
        .read_text()
        .replace(", config.train.steps = part, 16, 25", " = part, 16")
    )
    (tmp_path / "tiny.py").write_text(text)
    assert len(study.load(path).trials) == 2
    (only,) = study.load(path, ["--config.train.steps=7"]).trials
    assert only.id == "chain-size8-steps7" and only.config.budget is None


@pytest.mark.parametrize(
    "values, words",
    [
        ((1e11, 1.001e11, 2.5e10), ("1e11", "1.001e11", "2.5e10")),
        ((1e-3, 1e-3 * (1 + 1e-15)), ("0.001", "0.001000000000000001")),
        ((100000000000, 3e11), ("100000000000", "3e11")),
        ((np.float64(1e11), np.int64(5)), ("1e11", "5")),
    ],
)
def test_floats_that_differ_are_told_apart(tmp_path, monkeypatch, values, words):
    monkeypatch.setattr(study, "check", lambda config, *_: config)
    path = tmp_path / "tiny.py"
    tiny.write(tmp_path, [{"budget": value} for value in values])
    path.write_text("import numpy as np\n" + path.read_text())
    found = [trial.id for trial in study.load(str(path)).trials]
    assert found == [f"chain-budget{word}" for word in words]


def test_an_axis_keeps_its_types(tmp_path):
    files = [{"size": 8, "data.files": names} for names in (("json/*",), ("email/*", "a'b=1"))]
    path = tmp_path / "tiny.py"
    tiny.write(tmp_path, files)
    python = path.read_text().replace('"markov")\n', '"python_stdlib")\n')
    lines = [line for line in python.splitlines() if "tokens=" not in line and "order=" not in line]
    path.write_text("\n".join(lines).replace("vocab_size = 8", "vocab_size = 256"))
    loaded = study.load(str(path), prepared=False)
    assert [trial.config.data.files for trial in loaded.trials] == [f["data.files"] for f in files]
    assert len({trial.id for trial in loaded.trials}) == 2


@pytest.mark.parametrize(
    "trials, said",
    [
        ([{"size": 8}, {"size": 8}], "two trials have the id 'chain-size8'; the axes must differ"),
        (
            [{"train.batch_size": 16}, {"evaluation.batch_size": 16}],
            r"two trials have .* \(evaluat",
        ),
        ([{"sise": 8}], "has no key .sise. .did you mean .size."),
        ([{"size": 8.5}], "config.size=8.5: expected int"),
        ([{"model": 3}], "is a section; set one of its keys: .*width"),
        ([{"seed": True}], "config.seed=True: expected int"),
        ([{"train.schedule": 3}], "expected str"),
    ],
)
def test_axes_that_cannot_be(tmp_path, trials, said):
    with pytest.raises(UserError, match=said):
        ids(tmp_path, trials)


def test_trunks_keep_their_name_as_horizons_come(tmp_path):
    """The name has no axis of the horizon, whichever key that is."""
    axes = [{"size": 8, "train.steps": s, "train.decay_steps": d} for s, d in ((12, 2), (18, 4))]
    for trials in (
        axes,
        axes[::-1],
        [*axes, {"size": 8, "train.steps": 25, "train.decay_steps": 5}],
    ):
        loaded = study.load(tiny.write(tmp_path, trials))
        assert loaded.groups[0][0].id == "chain-size8-trunk"


def test_an_arm_is_in_the_id_once_whatever_sets_it(tmp_path):
    arms = [{"arm": arm, "size": 8} for arm in ("base", "lion")]
    assert ids(tmp_path, arms) == ["chain-armbase-size8", "chain-armlion-size8"]
    assert ids(tmp_path, [{"size": 8}], "--config.arm=base") == ["chain-armbase-size8"]
    assert ids(tmp_path, [{"size": 8}]) == ["chain-size8"]
    loaded = study.load(tiny.write(tmp_path, arms))
    found = [study.labels(trial.config, trial.id, loaded.name) for trial in loaded.trials]
    assert [(row["part"], row["arm"]) for row in found] == [("chain", "base"), ("chain", "lion")]
    with pytest.raises(UserError, match=r"config.arm: 'a/b': expected a name"):
        ids(tmp_path, [{"arm": "a/b", "size": 8}])
