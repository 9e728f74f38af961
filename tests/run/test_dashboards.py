"""metrics.jsonl as TensorBoard reads it, and what Weights & Biases is told."""

import dataclasses
import importlib.machinery
import json
import sys
import types
from typing import Any

import pytest
from ml_collections import ConfigDict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from research.errors import UserError
from research.run import dashboards
from research.run.dashboards import Dashboards

LABELS = {"study": "quickstart", "part": "text", "id": "text-size16"}
SCORE = {"score": {"value": 1.5, "unit": "bits/byte", "split": "validation"}}


def row(step, seconds):
    curves = {"learning_rate": 0.5, "loss": 4.0 / step, "grad_norm": float(step)}
    return {"step": step, "amount": 64 * step, "flops": 1e6 * step, **curves, "seconds": seconds}


def draw(folder, rows, before=()):
    drawn = Dashboards(folder, ConfigDict({"seed": 1}), LABELS, "tokens", 1e9, before)
    for each in rows:
        drawn.row(each)
    return drawn


def read(folder):
    """{tag: [(step, value, wall time)]} by TensorBoard's own reader."""
    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value, event.wall_time) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_tensorboard_reads_the_rows(tmp_path):
    draw(tmp_path, [row(2, 1.0), row(4, 1.5)]).done(SCORE)
    assert read(tmp_path) == {
        "train/learning_rate": [(2, 0.5, 1e9 + 1), (4, 0.5, 1e9 + 1.5)],
        "train/loss": [(2, 2.0, 1e9 + 1), (4, 1.0, 1e9 + 1.5)],
        "train/grad_norm": [(2, 2.0, 1e9 + 1), (4, 4.0, 1e9 + 1.5)],
        "speed/tokens_per_second": [(4, 256.0, 1e9 + 1.5)],
        "speed/flops_per_second": [(4, 4e6, 1e9 + 1.5)],
        "score/validation": [(4, 1.5, 1e9 + 1.5)],
    }


def test_a_run_that_goes_on_has_no_point_twice(tmp_path):
    """Killed in the middle of a record, after rows that are then taken again."""
    rows = [row(step, float(step)) for step in (2, 4, 6, 8)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    draw(whole, rows).done(SCORE)
    draw(killed, rows[:3])
    file = killed / dashboards.FILE
    file.write_bytes(file.read_bytes()[:-5])
    draw(killed, rows[2:], rows[:2]).done(SCORE)
    assert read(killed) == read(whole)
    assert file.read_bytes() == (whole / dashboards.FILE).read_bytes()
    assert [path.name for path in killed.iterdir()] == [dashboards.FILE]


def test_a_diverged_run_draws_what_it_has(tmp_path):
    draw(tmp_path, [row(2, 1.0) | {"loss": float("nan")}]).done({"score": {"value": None}})
    (point,) = read(tmp_path)["train/loss"]
    assert point[1] != point[1] and "score/validation" not in read(tmp_path)


def test_an_event_file_that_cannot_be_written(tmp_path):
    (tmp_path / dashboards.FILE).mkdir()
    with pytest.raises(UserError, match=f"cannot write {tmp_path}.*: Is a directory"):
        draw(tmp_path, [])


# Weights & Biases, of which the package is not at hand: what it would be told.


@dataclasses.dataclass
class Run:
    told: list
    step: int = 0

    def log(self, values, step):
        self.told.append(("log", step, values))
        self.step = step

    def finish(self):
        self.told.append("finish")


@pytest.fixture
def wandb(monkeypatch):
    module: Any = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.told, module.resumed = [], 0
    module.Settings = dict

    def init(**about):
        module.told.append(about)
        return Run(module.told, module.resumed)

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return module


def test_wandb_is_told_the_rows_under_one_id(tmp_path, wandb):
    draw(tmp_path, [row(2, 1.0), row(4, 1.5)]).done(SCORE)
    wandb.resumed = 4  # as its servers say of the id
    draw(tmp_path, [row(4, 1.5), row(6, 2.0)], [row(2, 1.0)]).done(SCORE)
    begun = [about for about in wandb.told if isinstance(about, dict)]
    names = {(a["project"], a["group"], a["name"], a["id"], a["resume"]) for a in begun}
    assert names == {("quickstart", "text", "text-size16", "text-size16-1000000000", "allow")}
    assert begun[0]["config"] == {"seed": 1} and begun[0]["dir"] == tmp_path
    logged = [call for call in wandb.told if isinstance(call, tuple)]
    assert [step for _, step, _ in logged] == [2, 4, 4, 4, 6, 6]  # each part ends with the score
    assert logged[1][2]["train/loss"] == 1.0 and logged[1][2]["progress/amount"] == 256
    assert logged[2][2]["score/validation"] == 1.5
    assert wandb.told.count("finish") == 2


def test_wandb_that_fails_is_one_warning(tmp_path, wandb, caplog):
    def fail(**_):
        raise RuntimeError("no route to its servers\nand a long trace")

    wandb.init = fail
    draw(tmp_path, [row(2, 1.0), row(4, 1.5)]).done(SCORE)
    (warned,) = [record.getMessage() for record in caplog.records]
    assert warned == (
        f"{tmp_path}: nothing more goes to Weights & Biases (no route to its servers)"
    )
    assert len(read(tmp_path)["train/loss"]) == 2


def test_when_wandb_takes_part(wandb, monkeypatch, tmp_path):
    wanted = dashboards.wandb_wanted
    assert wanted()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not wanted()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not wanted()  # not logged in
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wanted()
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert not wanted()  # not installed


def test_metrics_stay_json(tmp_path):
    """What is drawn is what metrics.jsonl holds: nothing is added to the rows."""
    first = row(2, 1.0)
    before = json.dumps(first)
    draw(tmp_path, [first])
    assert json.dumps(first) == before
