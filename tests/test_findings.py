"""What docstrings of studies say was found, asked again of the tables that are kept beside them."""

import json

import pandas as pd
import pytest

from research.__main__ import main

RATES = ["--loss", "loss", "--rate", "rate", "--over"]


@pytest.fixture
def asked(capsys):
    """The JSON that a verb prints of rows of a table in experiments/, by arm."""

    def ask(verb, table, *words, part):
        command = [verb, f"experiments/{table}.csv", *words, "--where", f"part == '{part}'"]
        assert main([*command, "--json"]) == 0
        return {row["arm"]: row for row in json.loads(capsys.readouterr().out)["arms"]}

    return ask


@pytest.mark.parametrize("part", ["text", "images"])
def test_activations_are_flat_under_mup_alone(asked, part):
    found = {
        name: asked("power", "coordinate_check", "--loss", name, "--over", "size", part=part)
        for name in ("stream", "output")
    }
    for powers in found.values():
        assert abs(powers["adamw mup"]["size"]["value"]) < 0.03
        assert powers["adamw standard"]["size"]["low"] > 0.4
    assert abs(found["stream"]["muon standard"]["size"]["value"]) < 0.04
    assert found["output"]["muon standard"]["size"]["low"] > 0.15


@pytest.mark.parametrize("part", ["text_width", "images_width"])
def test_the_best_rate_of_adamw_falls_with_the_width(asked, part):
    found = asked("transfer", "transfer", *RATES, "size", part=part)
    assert found["adamw"]["says"] == "moves" and found["adamw"]["exponent"]["high"] < -0.45
    assert found["muon"]["moved"]["low"] > -1.6
    if part == "images_width":
        assert found["mup"]["says"] == "stays"


@pytest.mark.parametrize(
    "part, arms", [("text_horizon", ["muon"]), ("images_horizon", ["adamw", "muon"])]
)
def test_the_best_rate_falls_with_the_horizon(asked, part, arms):
    found = asked("transfer", "transfer", *RATES, "steps", part=part)
    for arm in arms:
        assert found[arm]["says"] == "moves" and found[arm]["exponent"]["high"] < -0.2


def test_mup_and_completep_have_the_lower_losses():
    runs = pd.read_csv("experiments/transfer.csv")
    for axis, arm in (("size", "mup"), ("depth", "completep")):
        for part in (
            f"{name}_{'width' if axis == 'size' else axis}" for name in ("text", "images")
        ):
            own = runs[(runs.part == part) & (runs[axis] == runs[runs.part == part][axis].max())]
            best = own.groupby(["arm", "rate"]).loss.mean().groupby("arm").min()
            assert best[arm] < best["adamw"]


def test_the_critical_batch_grows_as_the_loss_falls(capsys):
    def found(*words):
        assert main(["batch", "experiments/critical_batch.csv", *words, "--json"]) == 0
        return [row["critical_batch"] for row in json.loads(capsys.readouterr().out)["networks"]]

    narrow, wide = found("--target", "3.05")
    assert 8 < narrow["value"] < 15 and 12 < wide["low"] < narrow["high"]
    assert found()[1]["value"] > wide["value"]
