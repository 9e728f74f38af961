"""A run that ends beyond a limit has failed by name: it says so, and no law is fitted to it."""

import importlib
import json
import math
import sys

import pytest

from research import failures, study
from research.failures import Limit
from research.report import figures
from research.report.load import read_study
from research.run import files
from research.scaling.doubt import table_checks
from research.scaling.table.table import read_runs
from research.train import train
from tests import tiny
from tests.scaling.planted import planted_study, result, write_study

ROWS = [{"step": step, "gap": float(step), "loss": 1.0} for step in range(1, 21)]
SCORES = {"units": {"value": 3.0}}


def limited(monkeypatch, **limits):
    monkeypatch.setattr(failures, "limits", lambda config: limits)
    return failures.found(None, ROWS, SCORES)


@pytest.mark.parametrize(
    "limit, value",
    [
        (Limit("units", "asleep", low=4), 3.0),
        (Limit("units", "too many", high=2), 3.0),
        (Limit("gap", "apart", high=19), 19.5),  # the median of the last two rows
    ],
)
def test_beyond_a_limit_is_a_failure_with_its_reason(monkeypatch, limit, value):
    (failure,) = limited(monkeypatch, broken=limit).values()
    assert failure["value"] == value and failure["measure"] == limit.measure
    assert failure["reason"].startswith(f"{limit.means}: {limit.measure} is {value:.3g}, ")


def test_ends_are_within_and_what_was_not_measured_says_nothing(monkeypatch):
    ends = Limit("units", "", low=3, high=3)
    assert limited(monkeypatch, edge=ends, absent=Limit("nowhere", "", high=0)) == {}


def test_no_number_is_beyond_any_limit(monkeypatch):
    monkeypatch.setitem(SCORES, "lost", {"value": math.nan})
    failure = limited(monkeypatch, lost=Limit("lost", "gone"))["lost"]
    assert failure["value"] is None and failure["reason"] == "gone: lost is nan, no number"


LIMITED = """
from research.failures import Limit
from tests.tiny import *

def limits(config):
    return {"asleep": Limit("likelihood", "it has learned nothing", high=config.model.width / 100)}
"""


def test_a_run_that_fails_says_so_in_its_result(tmp_path, monkeypatch):
    (tmp_path / "limited.py").write_text(LIMITED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "limited", raising=False)
    spec = tiny.write(tmp_path, [{"size": 16, "train.steps": 12}], family="tests.tiny")
    config = study.load(spec).trials[0].config
    whole = train(config, tmp_path / "whole")
    assert whole["status"] == "finished" and "failures" not in whole
    monkeypatch.setitem(sys.modules, "limited.family", importlib.import_module("limited"))
    config.family = "limited.family"
    found = train(config, tmp_path / "failed")
    assert found["status"] == files.FAILED and found["score"] == whole["score"]
    assert found["failures"]["asleep"]["reason"].startswith("it has learned nothing: likelihood is")
    assert files.read_result(tmp_path / "failed").get("failures") == found["failures"]


FAILED = {
    "asleep": {"measure": "units", "value": 0.0, "low": 1.0, "high": None, "reason": "it sleeps"}
}


def test_a_failed_run_is_in_no_fit_and_its_reason_is_said(tmp_path):
    rows = [result(1e6 * k, 1e8, 3.0 / k, 1e15) for k in (1, 2, 3)]
    rows.append(result(4e6, 1e8, 0.1, 1e15, status=files.FAILED, failures=FAILED))
    rows.append(result(5e6, 1e8, None, 1e15, status=files.STOPPED))
    table = read_runs(write_study(tmp_path / "study", rows))["text"]
    assert len(table) == 3 and 0.1 not in set(table.frame["L"])
    note, stopped = table.notes
    assert note.startswith("1 of 5 trials failed (asleep), left out: text-4000000")
    assert stopped.startswith("1 of 5 trials stopped early, left out: text-5000000")
    (finding,) = table_checks.flagged_rows(table)  # that a rival was better is no doubt
    assert note in str(finding)


def test_a_failed_run_is_crossed_out_in_the_figure(tmp_path):
    folder = planted_study(tmp_path / "study")
    path = next(folder.glob("*/result.json"))
    content = json.loads(path.read_text()) | {"status": files.FAILED, "failures": FAILED}
    path.write_text(json.dumps(content))
    (part,) = read_study(folder).parts
    failed = part.runs[~part.runs.usable]
    assert list(failed["flags"]) == ["it sleeps"]
    drawn = figures._failed(part.runs)
    assert list(drawn["id"]) == [content["id"]]
