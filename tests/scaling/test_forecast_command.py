"""Forecasts: of planted laws they hit, before the run alone, and what fails is a miss."""

import json

import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.run import record
from research.scaling import forecast_ledger, forecast_run
from research.scaling.commands import forecast as command
from tests import tiny
from tests.report.synthetic import PlantedPart, write_study
from tests.scaling.planted import losses, table, valleys

PART = PlantedPart(
    "chain", "A chain", "autoregressive", "markov", "bits/token", "exact", "tokens",
    1.5, 2.0, 4.0, 0.4, 0.4, (40, 80, 160, 320, 640), (1e5, 4e5, 1.6e6, 6.4e6),
)  # fmt: skip
EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


@pytest.fixture(scope="module")
def small():
    params, data = valleys()
    return table(params, data, losses(params, data, noise=0.002), budget=np.repeat(range(5), 7))


@pytest.fixture(scope="module")
def fit(small):
    return forecast_run.fitted(small, "chinchilla")


def to_come(small, times=30.0):
    c = float(small["C"].max()) * times
    n = (c / 6 / 20) ** 0.5
    return forecast_run.Ahead("far", "chain", n, c / (6 * n), c)


def made(run="far", **changed):
    """What is said of a run."""
    said = dict(trial=run, part="chain", params=1e4, data=1e7, flops=1e12, times=30.0)
    said |= dict(law="chinchilla", prediction=2.0, low=1.9, high=2.1, level=0.95, reach=True)
    said |= dict(unit="bits", kind="exact", runs=9, source="it", table="", code={}, at=EARLY)
    return said | changed


def said_of(folder, **changed):
    """A ledger of one forecast."""
    folder.mkdir(parents=True, exist_ok=True)
    line = forecast_ledger.line(made(**changed), forecast_ledger.FIRST)
    (folder / forecast_ledger.FILE).write_text(line)


def finished(folder, value, status="finished", began=LATE, run="far", unit="bits", kind="exact"):
    (folder / run).mkdir(parents=True, exist_ok=True)
    score = {"value": value, "unit": unit, "kind": kind, "split": "validation"}
    (folder / run / "result.json").write_text(json.dumps({"status": status, "score": score}))
    about = {"started_at": began, "git_revision": "", "dirty": False, "python": "3"}
    about |= {
        "versions": {},
        "data_fingerprint": "",
        "argv": [],
        "machine": {"cpu": "", "cores": 1, "memory_bytes": 1, "devices": []},
    }
    (folder / run / "provenance.json").write_text(json.dumps(about))


def test_a_run_of_the_planted_law_is_foretold(small, fit):
    run = to_come(small)
    said = forecast_run.forecast(fit, small, run)
    truth = float(losses(np.array([run.n]), np.array([run.d]))[0])
    assert said["low"] < truth < said["high"]
    assert said["prediction"] == pytest.approx(truth, rel=0.02)
    assert said["times"] == pytest.approx(30) and said["runs"] == len(small)
    assert len(said["table"]) == 64 and said["law"] == "chinchilla"


def test_other_rows_are_another_table(small, fit):
    run = to_come(small)
    fewer = small.select(np.arange(len(small)) > 0)
    one, other = (forecast_run.forecast(fit, rows, run)["table"] for rows in (small, fewer))
    assert one != other


def test_a_smaller_run_is_no_forecast(small, fit):
    with pytest.raises(UserError, match="expected a larger one"):
        forecast_run.forecast(fit, small, to_come(small, 1.0))


def test_runs_that_carry_no_law_say_why(small):
    with pytest.raises(UserError, match="no law forecasts .*chinchilla: .*frontier: "):
        forecast_run.fitted(small.select(np.arange(len(small)) < 2))


@pytest.mark.parametrize(
    "value, status, hit, words",
    [
        (2.05, "finished", 1, "| 2.0500 | -2.44% | yes |"),
        (2.2, "finished", 0, "| 2.2000 | -9.09% | no |"),
        (2.05, "failed", 0, "| failed |  | no |"),
        (None, "diverged", 0, "| diverged |  | no |"),
    ],
)
def test_what_became_of_a_forecast(tmp_path, value, status, hit, words):
    said_of(tmp_path)
    assert "| to come |" in command.table(forecast_run.outcomes(tmp_path))
    assert forecast_run.covered(forecast_run.outcomes(tmp_path)) == (0, 0, 0.0, 1.0)
    finished(tmp_path, value, status)
    found = forecast_run.outcomes(tmp_path)
    hits, over, low, high = forecast_run.covered(found)
    assert (hits, over) == (hit, 1) and 0 <= low <= hit <= high <= 1
    assert words in command.table(found)


def became(folder):
    (found,) = forecast_run.outcomes(folder)
    return found


@pytest.mark.parametrize("began", [EARLY, "2025-12-31T00:00:00+00:00"])
def test_a_run_that_began_before_it_was_forecast_is_a_miss(tmp_path, began):
    """At the same second, too, as who came first is not known then."""
    said_of(tmp_path)
    finished(tmp_path, 2.0, began=began)
    assert became(tmp_path).hit is False and "not after its forecast" in became(tmp_path).status


def test_a_run_without_a_beginning_or_an_end_is_a_miss(tmp_path):
    said_of(tmp_path)
    finished(tmp_path, 2.0)
    assert became(tmp_path).hit is True
    (tmp_path / "far" / "provenance.json").rename(tmp_path / "kept.json")
    assert became(tmp_path).hit is False and became(tmp_path).status == "of no known beginning"
    (tmp_path / "kept.json").rename(tmp_path / "far" / "provenance.json")
    (tmp_path / "far" / "result.json").unlink()
    assert became(tmp_path).hit is False and became(tmp_path).status == "not ended"


@pytest.mark.parametrize("key, value", [("unit", "nats"), ("kind", "upper bound")])
def test_another_score_is_no_hit(tmp_path, key, value):
    said_of(tmp_path)
    finished(tmp_path, 2.0, **{key: value})
    assert became(tmp_path).hit is False and f"another {key}, {value!r}" in became(tmp_path).status


@pytest.mark.parametrize("measured, off", [(-2.1, "+0.1000"), (0.0, "-2.0000")])
def test_losses_of_zero_or_less_are_off_by_a_difference(tmp_path, measured, off):
    said_of(tmp_path, prediction=-2.0, low=-2.2, high=-1.8)
    finished(tmp_path, measured)
    assert became(tmp_path).error == off


@pytest.mark.parametrize(
    "text, message",
    [
        (b"\xff\xfe\n", "is not UTF-8"),
        (forecast_ledger.line({"trial": "far"}, forecast_ledger.FIRST).encode(), "line 1: "),
    ],
)
def test_what_is_no_ledger_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / forecast_ledger.FILE).write_bytes(text)
    with pytest.raises(UserError, match=message) as error:
        forecast_run.outcomes(tmp_path)
    assert "\n" not in str(error.value)


def test_a_clock_that_goes_back_is_refused(tmp_path):
    forecast_run.append(tmp_path, [made("one", at=LATE)])
    with pytest.raises(UserError, match="line 2 is of .*, before the one above it"):
        forecast_run.append(tmp_path, [made("two", at=EARLY)])


def test_a_forecast_is_made_once_and_before_its_run(tmp_path):
    forecast_run.append(tmp_path, [made()])
    with pytest.raises(UserError, match="far has its forecast already, which stays"):
        forecast_run.append(tmp_path, [made()])
    finished(tmp_path, 2.0, run="begun")
    with pytest.raises(UserError, match="this run has begun"):
        forecast_run.append(tmp_path, [made("begun")])
    forecast_run.append(tmp_path, [made("next", at=LATE)])
    text = (tmp_path / forecast_ledger.FILE).read_text()
    assert [each["trial"] for each in forecast_ledger.parse(text, "it")] == ["far", "next"]
    (tmp_path / forecast_ledger.FILE).write_text(text.replace(EARLY, LATE, 1))
    with pytest.raises(UserError, match="line 1 breaks the chain"):
        forecast_run.append(tmp_path, [made("third", at=LATE)])


def test_the_command_from_small_runs_to_a_score(tmp_path, capsys, monkeypatch):
    write_study(tmp_path / "small", parts=(PART,), noise=0.002, samples=False)
    trials = [{"train.steps": 2000, "train.warmup_steps": 0}]
    study = tiny.write(tmp_path, trials)
    words = ["forecast", str(study), "--workdir", str(tmp_path / "runs")]
    assert main([*words, "--by", str(tmp_path / "small")]) == 0
    out = capsys.readouterr().out
    assert "| to come |" in out and "written to" in out
    folder = next(path.parent for path in (tmp_path / "runs").rglob(forecast_ledger.FILE))
    (said,) = forecast_ledger.parse((folder / forecast_ledger.FILE).read_text(), "it")
    monkeypatch.setattr(record, "now", lambda: LATE)
    scored = dict(unit=said["unit"], kind=said["kind"], began="2099-01-01T00:00:00+00:00")
    finished(folder, said["prediction"], run=said["trial"], **scored)
    assert main([*words, "--score"]) == 0
    assert "1 of 1 inside intervals of 95%: 100%" in capsys.readouterr().out
    assert main([*words, "--by", str(tmp_path / "small")]) == 2
    assert "this run has begun" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ((), "--by: name the folder of smaller runs"),
        (("--score", "--by", "x"), "--by: forecasts are what they are"),
        (("--score",), "no forecasts; `python -m research forecast` makes them"),
        (("--by", "small", "--budget", "3e12"), "--budget 3e+12: no trial of"),
        (("--by", "nowhere"), "no such run folder"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path, capsys, options, message):
    write_study(tmp_path / "small", parts=(PART,), samples=False)
    study = tiny.write(tmp_path, [{"train.steps": 12}])
    options = [str(tmp_path / each) if each == "small" else each for each in options]
    words = ["forecast", str(study), "--workdir", str(tmp_path / "runs"), *options]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
