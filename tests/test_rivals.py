"""Runs that stop early: only beside a rival, only far behind, and as if they might go on."""

import json
import shutil

import numpy as np
import pytest

from launch import local
from research import rivals, study
from research.__main__ import main
from research.run import files, watch
from research.scaling.table import read_runs
from tests import tiny

STEPS = 80
RATES = (1e-2, 2e-2, 1e-5)  # the last one learns next to nothing


def write(folder, rates=RATES, **axes) -> str:
    return tiny.write(
        folder, [{"train.steps": STEPS, "train.learning_rate": r, **axes} for r in rates]
    )


def curve(floor: float, noise: np.ndarray) -> dict[int, float]:
    """A learning curve with a row every 2 of 200 steps."""
    steps = np.arange(2, 201, 2)
    losses = (floor + steps**-0.5) * np.exp(noise)
    return dict(zip(steps.tolist(), losses.tolist(), strict=True))


def test_a_gap_is_sharp_where_batches_are_shared():
    rng = np.random.default_rng(0)
    batches = rng.normal(0, 0.1, 100)
    good, bad = curve(1.0, batches), curve(1.05, batches)
    gap, error = rivals.gap_to(bad, good, 200)
    assert gap == pytest.approx(np.log((1.05 + 0.0707) / (1 + 0.0707)), abs=2e-3)
    assert error < 1e-3
    _, error = rivals.gap_to(curve(1.05, rng.normal(0, 0.1, 100)), good, 200)
    assert error > 0.02
    assert rivals.gap_to(good, bad, 200)[0] == pytest.approx(-gap)


def test_a_gap_that_is_not_known_stops_nobody():
    good = curve(1.0, np.zeros(100))
    bad = curve(2.0, np.zeros(100))
    early = {step: loss for step, loss in bad.items() if step < 80}
    rare = {step: loss for step, loss in bad.items() if step % 20 == 0}
    negative = {step: loss - 3 for step, loss in bad.items()}
    broken = bad | {200: float("nan")}
    for own in (early, rare, negative, broken, {}):
        assert np.isnan(rivals.gap_to(own, good, 200)).all()
    # A rival that is a little behind is judged where it is, one that has just begun is not.
    assert rivals.gap_to(bad, {s: x for s, x in good.items() if s < 90}, 200)[0] > 0.5
    assert np.isnan(rivals.gap_to(bad, {s: x for s, x in good.items() if s < 80}, 200)[0])


def test_looks_are_few_and_late():
    due = [step for step in range(20, 3001, 20) if rivals.look_due(step, 20, 3000)]
    assert due[0] >= 1200 and len(due) <= rivals.LOOKS and due[-1] == 3000
    assert np.diff(due).max() <= 160


def test_rivals_differ_in_what_is_tuned_alone(tmp_path):
    trials = [
        {"train.learning_rate": 1e-2},
        {"train.learning_rate": 2e-2, "arm": "fast"},
        {"train.weight_decay": 0.3},
        {"train.batch_size": 16},
        {"train.warmup_steps": 3},
        {"train.ema_decay": 0.5},
        {"train.optimizer": "lion", "train.learning_rate": 1e-3},
        {"seed": 1},
        {"size": 8},
        {"log_steps": 4},  # too few rows to be judged
    ]
    loaded = study.load(tiny.write(tmp_path, [{"train.steps": STEPS, **t} for t in trials]))
    found = rivals.of(loaded.trials, tmp_path)
    slow, fast, decayed = (trial.id for trial in loaded.trials[:3])
    assert found.keys() == {slow, fast, decayed}
    margins = {name: {r.folder.name: r.margin for r in own} for name, own in found.items()}
    assert margins[slow] == {fast: rivals.LOWER, decayed: rivals.OTHER}
    assert margins[fast] == {slow: rivals.OTHER, decayed: rivals.OTHER}
    assert {rival.folder.parent for own in found.values() for rival in own} == {tmp_path}
    assert rivals.of(study.load(tiny.write(tmp_path)).groups[0], tmp_path) == {}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A study whose hopeless run stopped, and the same one whose runs all ended."""
    folder = tmp_path_factory.mktemp("rivals")
    loaded = study.load(write(folder))
    local.work(loaded, folder / "whole")
    local.work(loaded, folder / "stopped", stop_hopeless=True)
    return loaded, folder


@pytest.mark.slow
def test_a_hopeless_run_stops(swept):
    loaded, folder = swept
    *good, bad = (trial.id for trial in loaded.trials)
    left, whole = tiny.left(folder / "stopped"), tiny.left(folder / "whole")
    assert {name: left[name] for name in good} == {name: whole[name] for name in good}
    result = left[bad]["result"]
    assert result["status"] == files.STOPPED
    assert result["score"]["value"] is None and result["train_loss"] is None
    stopped = result["stopped"]
    assert stopped["rival"] in good and stopped["gap"] > rivals.LOWER
    assert stopped["step"] == left[bad]["rows"][-1]["step"] < STEPS / 2
    assert result["flops_spent"] == result["flops"] * stopped["step"] / STEPS
    assert left[bad]["rows"] == whole[bad]["rows"][: len(left[bad]["rows"])]


@pytest.mark.slow
def test_what_reads_a_stopped_run(swept):
    loaded, folder = swept
    bad = loaded.trials[-1].id
    row = watch.read_run(folder / "stopped" / bad)
    assert row.beat.state == "stopped early" and row.beat.step < STEPS and not row.score
    assert "1 stopped early" in watch.summary([row])
    (table,) = read_runs(folder / "stopped").values()
    assert list(table.frame["id"]) == sorted(t.id for t in loaded.trials[:-1])
    assert table.notes == (f"1 of 3 trials stopped early, left out: {bad}",)
    before = (folder / "stopped" / bad / "result.json").read_bytes()
    local.work(loaded, folder / "stopped")  # over, as one that ended
    assert (folder / "stopped" / bad / "result.json").read_bytes() == before


@pytest.mark.slow
def test_without_its_result_it_goes_on_as_if_it_never_had_stopped(swept, tmp_path):
    loaded, folder = swept
    shutil.copytree(folder / "stopped", tmp_path / "again")
    bad = loaded.trials[-1].id
    (tmp_path / "again" / bad / "result.json").unlink()
    local.work(loaded, tmp_path / "again")
    left, whole = tiny.left(tmp_path / "again")[bad], tiny.left(folder / "whole")[bad]
    left.pop("checkpoints"), whole.pop("checkpoints")  # one more, where it stopped
    assert left == whole


@pytest.mark.slow
def test_rivals_that_are_lost_stop_nobody(swept, tmp_path):
    loaded, folder = swept
    best, _, bad = (folder / "whole" / trial.id for trial in loaded.trials)
    rows = tiny.rows(bad)[:20]

    def behind(*folders, margin=rivals.LOWER):
        return rivals.behind(rows, [rivals.Rival(each, margin) for each in folders], STEPS)

    assert behind(best).rival == best.name
    assert behind(best, margin=behind(best).gap) is None  # as far as it may be
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "metrics.jsonl").write_bytes((best / "metrics.jsonl").read_bytes())
    assert behind(lost)  # still training
    result = json.loads((best / "result.json").read_text())
    result.pop("checksum")
    for status in ("diverged", files.STOPPED):
        (lost / "result.json").write_text(json.dumps(result | {"status": status}))
        assert behind(lost) is None
    (lost / "result.json").write_text("5")
    assert behind(lost, tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "words, said",
    [
        (["--backend", "slurm"], "an option of --backend local"),
        (["--render"], "--stop_hopeless is of runs beside each other; drop --render"),
        (["--config.train.steps=20"], "no two trials of tiny differ only in numbers of their"),
    ],
)
def test_what_stopping_cannot_go_with(tmp_path, capsys, words, said):
    spec = write(tmp_path)
    assert main(["sweep", "--config", spec, "--workdir", str(tmp_path), "--stop_hopeless", *words])
    assert said in capsys.readouterr().err
