"""Every verb of the law lab: its examples run as printed, its JSON is whole, its spelling one."""

import argparse
import dataclasses
import importlib
import json
import re
import shlex

import numpy as np
import pandas as pd
import pytest

from research import scaling
from research.__main__ import VERBS, main
from research.scaling.laws import LAWS
from tests.scaling.planted import (
    arms_study,
    batches_study,
    grid,
    losses,
    planted_arms,
    planted_batches,
    planted_rates,
    planted_study,
    rates_study,
    valleys,
)

LAB = (
    "fit",
    "isoflop",
    "backtest",
    "extrapolate",
    "plan",
    "predict",
    "next",
    "reproduce",
    "compare",
    "transfer",
    "power",
    "batch",
)


def command(verb: str):
    return importlib.import_module(f"research.scaling.commands.{verb}")


def examples(verb: str) -> list[str]:
    """The command lines that --help and the list of verbs print."""
    text = command(verb).EXAMPLE.replace("\\\n", " ")
    printed = [line.strip() for line in text.splitlines() if line.startswith("  python")]
    return list(dict.fromkeys([*printed, VERBS[verb][1]]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the examples name."""
    path = tmp_path_factory.mktemp("lab")
    params, data = grid(7, 6, 2.5)
    surface = pd.DataFrame({"N": params, "D": data, "L": losses(params, data, noise=0.003)})
    surface["name"] = np.where(surface["D"] > 1e11, "long", "short")
    size, amount = valleys()
    valley = pd.DataFrame({"N": size, "D": amount, "L": losses(size, amount, noise=0.001)})
    valley = valley.assign(C=6 * size * amount, run=np.arange(len(size)).astype(str))
    valley.assign(experiment="short warm-up").to_csv(path / "points.csv", index=False)
    surface.to_csv(path / "table.csv", index=False)
    step = np.geomspace(1, 1e4, 30)
    curves = [
        pd.DataFrame({"Task": task, "Model": model, "Step": step, "Loss": 0.3 + scale / step**0.4})
        for task, model, scale in (("one", "a", 1.0), ("one", "b", 2.0), ("two", "c", 1.5))
    ]
    curve = pd.concat(curves).assign(**{"Seen Examples": lambda rows: 1000 * rows["Step"]})
    curve["Training"] = (curve["Step"] < 1000).astype(int)
    curve.to_csv(path / "curves.csv", index=False)
    pool = surface.assign(FLOPs=6 * params * data, gpu_hours=params * data / 1e18)
    pool["num_experts"] = np.tile([1.0, 4.0, 16.0], 14)
    pool.to_csv(path / "pool.csv", index=False)
    pool[["N", "D", "num_experts"]].tail(5).to_csv(path / "target.csv", index=False)
    val = np.linspace(1.5, 5.5, 30)
    tasks = pd.DataFrame({"val_loss": val, "error": 0.75 - 2 * np.exp(-0.9 * val)})
    tasks.to_csv(path / "tasks.csv", index=False)
    planted_study(path / "runs" / "quickstart")
    arms = planted_arms(seeds=2, noise=0.003, multiplier=2.0)
    for name, rows in zip("ab", arms, strict=True):
        rows.to_csv(path / f"{name}.csv", index=False)
    both = [r.assign(optimizer=o) for r, o in zip(arms, ("adamw", "muon"), strict=True)]
    pd.concat(both).to_csv(path / "arms.csv", index=False)
    arms_study(path / "runs" / "recipe_text", dict(zip(("base", "muon"), arms, strict=True)))
    score = {"value": 2.0, "unit": "root mean square", "kind": "exact", "better": "lower"}
    scores = {"activations_output": score | {"split": "validation", "examples": 8}}
    arms_study(path / "runs" / "coordinate_check", {"mup": arms[0]}, scores=scores)
    rates = planted_rates(noise=0.003)
    rates.assign(optimizer="adamw").to_csv(path / "rates.csv", index=False)
    for part, key in (("text_width", "width"), ("text_depth", "depth")):
        rates_study(path / "runs" / "transfer", part=part, key=key, noise=0.003)
    batches_study(path / "runs" / "critical_batch")
    planted_batches().assign(size=32).to_csv(path / "batches.csv", index=False)
    (path / "laws").mkdir()
    words = shlex.split(
        "fit table.csv --params N --data D --loss L --bootstrap 200 --out laws.json"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(words) == 0
    return path


# The last example of reproduce is run by test_scaling_reproduce, on a table it plants.
EXAMPLES = [line for verb in LAB for line in examples(verb) if "--data svg" not in line]


@pytest.mark.slow
@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_runs_as_printed(line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    # Two laws in place of all: what is tested is the command line.
    module = importlib.import_module("research.scaling.backtest")
    monkeypatch.setattr(module, "candidates", lambda table: [LAWS["chinchilla"], LAWS["kaplan"]])
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "research"]
    assert main(words[3:]) == 0, capsys.readouterr()
    assert capsys.readouterr().out
    if "--out" in words:
        assert (folder / words[words.index("--out") + 1]).stat().st_size > 0


SHORT = {
    "fit": "fit table.csv --params N --data D --loss L --bootstrap 100",
    "isoflop": "isoflop points.csv --params N --data D --loss L --flops C --bootstrap 100",
    "backtest": "backtest table.csv --params N --data D --loss L --law power --law chinchilla"
    " --bootstrap 100 --holdout \"name == 'long'\"",
    "extrapolate": "extrapolate curves.csv --curve Task,Model --x Step --y Loss --fit Training==1"
    " --law m2",
    "plan": "plan laws.json --flops 1e23",
    "predict": "predict laws.json --table target.csv",
    "next": "next --pool pool.csv --params N --data D --loss L --cost FLOPs --target target.csv"
    " --law chinchilla",
    "reproduce": "reproduce hoffmann2022",
    "compare": "compare a.csv b.csv --flops C --loss L",
    "batch": "batch runs/critical_batch",
    "transfer": "transfer rates.csv --over width --rate lr --loss L",
    "power": "power rates.csv --over width --loss lr",
}
KEYS = {
    "fit": {"law", "parameters", "intervals", "warnings", "refused", "convention"},
    "isoflop": {
        *("params_exponent", "params_interval", "data_exponent", "data_interval"),
        *("coefficients", "optima", "warnings"),
    },
    "backtest": {"holdout", "laws", "warnings"},
    "extrapolate": {"laws", "predictions", "coverage", "notes"},
    "plan": {"params", "tokens", "loss", "best", "chip_hours", "curve", "warnings"},
    "predict": {"law", "predictions", "warnings", "fit_warnings"},
    "next": {"rows", "shares", "waiting", "prediction", "low", "high"},
    "reproduce": {"paper", "passed", "lines", "learned"},
    "compare": {"multiplier", "trend", "range", "paired", "p_value", "warnings", "refused"},
    "transfer": {"arms"},
    "power": {"arms"},
    "batch": {"networks"},
}


@pytest.mark.parametrize("verb", LAB)
def test_json_goes_to_standard_output_and_holds_no_nan(verb, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main([*shlex.split(SHORT[verb]), "--json"]) == 0

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    content = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert KEYS[verb] <= set(content)


def test_predictions_of_curves_are_in_the_json(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    main([*shlex.split(SHORT["extrapolate"]), "--json", "--out", "ahead.csv"])
    content = json.loads(capsys.readouterr().out)
    written = pd.read_csv("ahead.csv")
    assert [row["prediction"] for row in content["predictions"]] == list(written["prediction"])
    curves = pd.read_csv("curves.csv")
    assert [row["row"] for row in content["predictions"]] == list(
        np.flatnonzero(curves["Training"] == 0) + 1
    )


@pytest.mark.parametrize("verb", [verb for verb in LAB if verb != "reproduce"])
def test_an_out_that_cannot_be_written_is_one_line(verb, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for out, match in {
        "table.csv/inside.json": "cannot write table.csv/inside.json",
        "laws": "cannot write laws: Is a directory",
    }.items():
        assert main([*shlex.split(SHORT[verb]), "--out", out]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and said.err.count("\n") == 1 and match in said.err
        assert said.out == ""


def options(verb: str) -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser()
    command(verb).add_arguments(parser)
    return {word: action for action in parser._actions for word in action.option_strings}


def test_one_thing_is_spelt_one_way():
    everything = {verb: options(verb) for verb in LAB}
    for verb, found in everything.items():
        assert "--json" in found and all("_" not in word for word in found), verb
    for word in ("--params", "--data", "--loss", "--unique", "--column", "--where"):
        helps = {everything[verb][word].help for verb in ("fit", "isoflop", "backtest", "next")}
        assert len(helps) == 1, word


def test_underscores_are_read_as_hyphens(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for option in ("--drop-highest", "--drop_highest"):
        assert main([*shlex.split(SHORT["fit"]), f"{option}=3", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["num_runs"] == 39
    assert main([*shlex.split(SHORT["plan"]), "--inference_tokens", "1e12"]) == 0


def test_every_verb_is_a_function_that_returns_a_documented_dataclass():
    readme = scaling.__doc__ or ""
    pairs = re.findall(r"^    (\w+)\(.*?\) -> (\w+)", readme, re.M)
    names = ("isoflop", "backtest", "extrapolate", "next_runs", "plan", "predict", "reproduce")
    names = (*names, "compare", "transfer", "critical_batch")
    assert {"fit_law", *names} == {name for name, _ in pairs}
    for name, result in pairs:
        kind = getattr(scaling, result)
        assert getattr(scaling, name).__annotations__["return"] in (kind, result)
        assert dataclasses.is_dataclass(kind) and len(kind.__doc__ or "") > 30
        assert hasattr(kind, "to_json") and getattr(scaling, name).__doc__
