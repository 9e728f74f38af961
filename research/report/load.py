"""Read a run folder into the tables the report draws. The folder is the contract; see README."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from research.errors import UserError
from research.report.axes import count
from research.run.goodput import PHASES
from research.run.record import read_json

CURVE_POINTS = 48
SAMPLE_CHARACTERS = 700

RUN_COLUMNS = (
    "id", "part", "size", "seed", "budget", "N", "D", "C", "flops_6nd", "flops_spent", "loss",
    "train_loss", "unit", "kind", "epochs", "steps", "batch_size", "learning_rate", "seconds",
    "gflops_per_second", "goodput", "status", "flags", "usable", "held_out",
)  # fmt: skip
CURVE_COLUMNS = ("id", "size", "seed", "N", "D", "C", "step", "loss", "train_loss")


@dataclass(frozen=True)
class Sample:
    """What one trained model drew: a text, or the bytes of a PNG."""

    id: str
    size: str
    params: int
    loss: float
    text: str | None = None
    png: bytes | None = None


@dataclass(frozen=True)
class Part:
    """One part of a study: its runs, their learning curves, their samples.

    `runs` has RUN_COLUMNS (N in parameters of `convention`, D in `data_unit`, C in FLOPs, loss in
    `unit`), `curves` has CURVE_COLUMNS (loss in `unit`, on validation data where the run was scored
    on the way and else on its own batches; train_loss as optimised); `missing` lists planned
    trials without a result.
    """

    name: str
    title: str
    family: str
    data: str
    unit: str
    kind: str
    data_unit: str
    params_convention: str
    flops_convention: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    samples: list[Sample]
    missing: list[str]
    floor: dict | None


@dataclass(frozen=True)
class Study:
    """A run folder: its description, its parts, and where and with what it was made.

    `left_out` are titles of parts of which no trial has a score yet; `seconds` is a table of where
    the time went, by part and phase (`spent.table`).
    """

    folder: Path
    name: str
    title: str
    question: str
    docstring: str
    parts: list[Part]
    left_out: list[str]
    provenance: list[dict]
    trunk_flops: float
    trunk_seconds: float
    seconds: pd.DataFrame


def read_study(folder: str | Path) -> Study:
    """Read the run folder of a study.

    Raises:
        UserError: when the folder is missing, is no run folder, or holds no finished trial.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; `python -m research sweep` makes one")
    if not (folder / "study.json").is_file():
        raise UserError(f"{folder}: no study.json in it, so it is not the folder of a sweep")
    study = read_json(folder / "study.json")
    results, unfinished, provenance = _read_runs(folder)
    trials = [result for result in results if result.get("role") == "trial"]
    trunks = [result for result in results if result.get("role") == "trunk"]
    if not trials:
        raise UserError(f"{folder}: no trial has finished yet; run the sweep again to go on")
    scored = {trial["part"] for trial in trials if _score(trial) is not None}
    if not scored:
        raise UserError(f"{folder}: every trial diverged, so there is nothing to show")
    missing = _missing(study, trials, unfinished)
    parts = [
        _read_part(folder, name, described, trials, missing.get(name, []))
        for name, described in study["parts"].items()
        if name in scored
    ]
    return Study(
        folder=folder,
        name=study["study"],
        title=study.get("title") or study["study"],
        question=study.get("question") or "",
        docstring=study.get("docstring") or "",
        parts=parts,
        left_out=[about["title"] for name, about in study["parts"].items() if name not in scored],
        provenance=provenance,
        trunk_flops=sum(trunk.get("flops_spent") or 0.0 for trunk in trunks),
        trunk_seconds=sum(trunk.get("seconds") or 0.0 for trunk in trunks),
        seconds=_seconds(results, study["parts"]),
    )


def _read_runs(folder: Path) -> tuple[list[dict], list[dict], list[dict]]:
    """Return results, configs of runs without a result, and provenances, in order of id."""
    results, unfinished, provenance = [], [], []
    for config in sorted(folder.glob("*/config.json")):
        run = config.parent
        if (run / "result.json").is_file():
            results.append(read_json(run / "result.json"))
        else:
            unfinished.append({**read_json(config), "id": run.name})
        if (run / "provenance.json").is_file():
            provenance.append({**read_json(run / "provenance.json"), "id": run.name})
    return results, unfinished, provenance


def _seconds(results: list[dict], parts: dict[str, dict]) -> pd.DataFrame:
    """Return seconds by `part` (its title) and `phase`, summed over trials and trunks.

    Runs that do not say where their time went are left out.
    """
    rows = [
        (parts[result["part"]].get("title") or result["part"], phase, seconds)
        for result in results
        for phase, seconds in (result.get("goodput") or {"seconds": {}})["seconds"].items()
        if phase in PHASES
    ]
    table = pd.DataFrame(rows, columns=["part", "phase", "seconds"])
    return table.groupby(["part", "phase"], sort=False, as_index=False).sum()


def _missing(study: dict, trials: list[dict], unfinished: list[dict]) -> dict[str, list[str]]:
    """Return the planned trials without a result, by part.

    study.json lists what was planned; without a list only trials that were begun can be named
    (a trunk has no budget).
    """
    done = {trial["id"] for trial in trials}
    missing: dict[str, list[str]] = {}
    planned = study.get("trials") or []
    for name in planned:
        if name not in done:
            missing.setdefault(_part_of(name, study), []).append(name)
    for config in unfinished if not planned else []:
        if config.get("budget"):
            missing.setdefault(config["part"], []).append(config["id"])
    return missing


def _part_of(trial: str, study: dict) -> str:
    """Return the longest part name that begins the id of a planned trial."""
    names = [name for name in study["parts"] if trial.startswith(f"{name}-")]
    return max(names, key=len, default="")


def _read_part(folder, name: str, described: dict, trials: list[dict], missing: list[str]) -> Part:
    trials = [trial for trial in trials if trial["part"] == name]
    runs = pd.DataFrame([_row(trial) for trial in trials], columns=list(RUN_COLUMNS))
    runs = runs.sort_values(["N", "C", "seed"], ignore_index=True)
    first = next(trial for trial in trials if _score(trial) is not None)
    floors = [trial["floor"] for trial in trials if trial.get("floor")]
    return Part(
        name=name,
        title=described.get("title") or name,
        family=first["family"],
        data=first["data"]["name"],
        unit=first["score"]["unit"],
        kind=first["score"]["kind"],
        data_unit=first["data"]["unit"],
        params_convention=first["convention"]["params"],
        flops_convention=first["convention"]["flops"],
        runs=runs,
        curves=_read_curves(folder, trials, first["score"]["unit"]),
        samples=_read_samples(folder, runs),
        missing=missing,
        floor=floors[0] if floors else None,
    )


def _row(trial: dict) -> dict:
    """Return one row of the table of runs; floats keep their full precision."""
    loss = _number(_score(trial))
    seconds = _number(trial.get("seconds"))
    spent = _number(trial.get("flops_spent"))
    return {
        "id": trial["id"],
        "part": trial["part"],
        "size": count(_params(trial)),
        "seed": trial["seed"],
        "budget": _number(trial.get("budget")),
        "N": _params(trial),
        "D": trial["data"]["amount"],
        "C": trial["flops"],
        "flops_6nd": trial["flops_6nd"],
        "flops_spent": spent,
        "loss": loss,
        "train_loss": _number(trial.get("train_loss")),
        "unit": (trial.get("score") or {}).get("unit", ""),
        "kind": (trial.get("score") or {}).get("kind", ""),
        "epochs": trial["data"]["epochs"],
        "steps": trial["steps"],
        "batch_size": trial["batch_size"],
        "learning_rate": trial["learning_rate"],
        "seconds": seconds,
        "gflops_per_second": spent / seconds / 1e9 if seconds > 0 else math.nan,
        "goodput": _number((trial.get("goodput") or {}).get("share")),
        "status": trial["status"],
        "flags": ", ".join(_flags(trial, loss)),
        "usable": math.isfinite(loss),
        "held_out": False,
    }


def _score(trial: dict) -> float | None:
    """Return the finite score of a finished trial, or None."""
    value = _number((trial.get("score") or {}).get("value"))
    return value if trial["status"] == "finished" and math.isfinite(value) else None


def _params(trial: dict) -> int:
    """Return the count its convention names; the convention may go on to say what is in it."""
    counted = trial["convention"]["params"]
    name = next((key for key in ("total", "non_embedding") if counted.startswith(key)), None)
    if name is None:
        raise UserError(f"{trial['id']}: convention.params is {counted!r}; total or non_embedding")
    return trial["params"][name]


def _flags(trial: dict, loss: float) -> list[str]:
    """Return what a reader should know about a run before trusting its point."""
    flags = []
    if trial["status"] != "finished":
        flags.append(trial["status"])
    elif not math.isfinite(loss):
        flags.append("no score")
    if trial["data"]["epochs"] > 1:
        flags.append(f"repeats data ({trial['data']['epochs']:.1f} epochs)")
    if trial.get("schedule_end_step") not in (None, trial["steps"]):
        flags.append("schedule outlives the run")
    if (trial.get("warmup_fraction") or 0) > 0.2:
        flags.append(f"warm-up is {trial['warmup_fraction']:.0%} of the run")
    return flags


def _read_curves(folder: Path, trials: list[dict], unit: str) -> pd.DataFrame:
    """Return the learning curves of all trials, each begun by the trunk it branched from."""
    trunks: dict[str, list[dict]] = {}
    tables = []
    for trial in trials:
        rows = read_metrics(folder / trial["id"] / "metrics.jsonl")
        trunk, branch = trial.get("trunk"), trial.get("branch_step")
        if trunk and branch:
            if trunk not in trunks:
                trunks[trunk] = read_metrics(folder / trunk / "metrics.jsonl")
            rows = [row for row in trunks[trunk] if row["step"] <= branch] + rows
        if rows:
            tables.append(_curve(trial, rows, unit))
    if not tables:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(tables, ignore_index=True)


def _curve(trial: dict, rows: list[dict], unit: str) -> pd.DataFrame:
    """Return one curve as means over bins even in log data: short enough to draw, and smooth."""
    table = pd.DataFrame(
        {
            "D": [float(row["amount"]) for row in rows],
            "C": [float(row["flops"]) for row in rows],
            "step": [row["step"] for row in rows],
            "loss": [_in_unit(row, unit) for row in rows],
            "train_loss": [_number(row.get("loss")) for row in rows],
        }
    )
    logs = np.log(table.D)
    width = max((logs.max() - logs.min()) / CURVE_POINTS, 1e-9)
    means = table[:-1].groupby((logs[:-1] / width).round()).mean()
    means = pd.concat([means, table[-1:]], ignore_index=True)
    # Nobody reads a curve to its tenth digit, and the page is smaller without.
    means = means.map(lambda value: float(f"{value:.5g}"))
    about = {"id": trial["id"], "size": count(_params(trial)), "seed": trial["seed"]}
    return means.assign(**about, N=_params(trial))[list(CURVE_COLUMNS)]


def _in_unit(row: dict, unit: str) -> float:
    """Return a row's loss in the unit of the score: a score, a bound in bits, or nats a token."""
    for name in ("score", "bound"):
        if row.get(name) is not None:
            return float(row[name])
    return _number(row.get("loss")) / math.log(2) if unit != "bits/dim" else math.nan


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl in order of step; a half-written last line is skipped."""
    if not path.is_file():
        return []
    rows = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        # A resumed run may write a step twice: the later row is the one that counts.
        rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


def _read_samples(folder: Path, runs: pd.DataFrame) -> list[Sample]:
    """Return for each size what its longest-trained run with samples drew, smallest first."""
    samples = []
    for _, group in runs[runs.usable].groupby("N"):
        for row in group.sort_values(["C", "seed"], ascending=[False, True]).itertuples():
            text, image = (folder / str(row.id) / name for name in ("samples.txt", "samples.png"))
            common = (str(row.id), str(row.size), int(row.N), float(row.loss))  # type: ignore
            if text.is_file():
                words = text.read_text(errors="replace")[:SAMPLE_CHARACTERS]
                samples.append(Sample(*common, text=words))
            elif image.is_file():
                samples.append(Sample(*common, png=image.read_bytes()))
            else:
                continue
            break
    return samples


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
