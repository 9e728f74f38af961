"""Read a run folder into the tables the report draws. The folder is the contract; see README."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import numpy as np
import pandas as pd

from research.config import read as read_config
from research.errors import UserError
from research.numbers import count
from research.run import files, record
from research.run.files import Run, Trial
from research.run.goodput import PHASES
from research.run.rows import FILE as METRICS
from research.run.rows import read_rows

UNSTATED = {"kind": "known", "source": "not stated"}  # of a floor
CURVE_POINTS = 48
SAMPLE_CHARACTERS = 700

RUN_COLUMNS = (
    "id", "part", "size", "seed", "budget", "N", "D", "C", "flops_6nd", "flops_spent", "loss",
    "train_loss", "unit", "kind", "epochs", "steps", "batch_size", "learning_rate", "seconds",
    "gflops_per_second", "goodput", "status", "flags", "usable", "held_out",
)  # fmt: skip
CURVE_COLUMNS = ("id", "size", "seed", "N", "D", "C", "step", "loss", "train_loss")


class Row(TypedDict):
    """What a page draws of a row of metrics.jsonl; a run that diverges ends with NaN."""

    step: record.Count
    amount: Annotated[float, msgspec.Meta(gt=0, le=1e300)]
    flops: record.Number
    loss: NotRequired[float | None]
    score: NotRequired[float | None]
    bound: NotRequired[float | None]


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

    `left_out` are titles of parts of which no trial has a score yet; `unread` says which files
    could not be read, and why; `seconds` is a table of where
    the time went, by part and phase (`spent.table`).
    """

    folder: Path
    name: str
    title: str
    question: str
    docstring: str
    parts: list[Part]
    left_out: list[str]
    unread: list[str]
    provenance: list[dict]
    trunk_flops: float
    trunk_seconds: float
    seconds: pd.DataFrame


def read_study(folder: str | Path, loss: str | None = None) -> Study:
    """Read the run folder of a study, judged by its score `loss` where one is named.

    Raises:
        UserError: when the folder is missing, is no run folder, holds no finished trial that can
            be read, or has no such score.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; `python -m research sweep` makes one")
    if not (folder / files.STUDY).is_file():
        raise UserError(f"{folder}: no study.json in it, so it is not the folder of a sweep")
    study, runs = files.read_description(folder), files.read_runs(folder, loss)
    if not runs.trials:
        reasons = "".join(f": {reason}" for reason in list(runs.unreadable.values())[:1])
        raise UserError(f"{folder}: no trial has finished yet{reasons}; run the sweep again")
    if loss is not None and all(files.main_score(trial) == loss for trial in runs.trials):
        loss = None  # what a row calls its score
    scored = {trial["part"] for trial in runs.trials if _score(trial) is not None}
    if not scored:
        raise UserError(f"{folder}: every trial diverged, so there is nothing to show")
    unread = list(runs.unreadable.values())
    provenance, missing = _provenance(folder, unread), _missing(folder, study, runs, unread)
    about = study.get("parts", {})
    names = dict.fromkeys([*about, *(trial["part"] for trial in runs.trials)])
    titles = {name: about.get(name, {}).get("title") or name for name in names}
    parts = [
        _read_part(folder, name, title, runs.trials, missing.get(name, []), unread, loss)
        for name, title in titles.items()
        if name in scored
    ]
    name = study.get("study") or folder.name
    return Study(
        folder=folder,
        name=name,
        title=study.get("title") or name,
        question=study.get("question") or "",
        docstring=study.get("docstring") or "",
        parts=parts,
        left_out=[title for part, title in titles.items() if part not in scored],
        unread=[reason.replace(f"{folder}/", "") for reason in unread],
        provenance=provenance,
        trunk_flops=sum(trunk.get("flops_spent") or 0.0 for trunk in runs.trunks),
        trunk_seconds=sum(trunk.get("seconds") or 0.0 for trunk in runs.trunks),
        seconds=_seconds([*runs.trials, *runs.trunks], titles),
    )


def _provenance(folder: Path, unread: list[str]) -> list[dict]:
    """Return where the runs came from, in order of id; add to `unread` what cannot be read."""
    found = []
    for path in sorted(folder.glob(f"*/{files.PROVENANCE}")):
        try:
            found.append({**files.read_provenance(path.parent), "id": path.parent.name})
        except UserError as error:
            unread.append(str(error))
    return found


def _seconds(results: Sequence[Run | Trial], titles: dict[str, str]) -> pd.DataFrame:
    """Return seconds by `part` (its title) and `phase`, summed over trials and trunks.

    Runs that do not say where their time went are left out.
    """
    rows = [
        (titles.get(result["part"], result["part"]), phase, seconds)
        for result in results
        for phase, seconds in (result.get("goodput") or {"seconds": {}})["seconds"].items()
        if phase in PHASES
    ]
    table = pd.DataFrame(rows, columns=["part", "phase", "seconds"])
    return table.groupby(["part", "phase"], sort=False, as_index=False).sum()


def _missing(
    folder: Path, study: files.Description, runs: files.Runs, unread: list[str]
) -> dict[str, list[str]]:
    """Return the planned trials without a result, by part.

    study.json lists what was planned; without a list only trials that were begun can be named
    (a trunk has no budget).
    """
    known = [*(trial["id"] for trial in runs.trials), *runs.unreadable]
    if study.get("trials"):
        return files.missing(study, known)
    missing: dict[str, list[str]] = {}
    known += [trunk["id"] for trunk in runs.trunks]
    for path in sorted(folder.glob("*/config.json")):
        if path.parent.name in known:
            continue
        try:
            config = read_config(path.parent)
        except UserError as error:
            unread.append(str(error))
            continue
        if config.get("budget"):
            missing.setdefault(str(config.get("part", "")), []).append(path.parent.name)
    return missing


def _read_part(
    folder: Path,
    name: str,
    title: str,
    trials: list[Trial],
    missing: list[str],
    unread: list[str],
    loss: str | None,
) -> Part:
    trials = [trial for trial in trials if trial["part"] == name]
    runs = pd.DataFrame([_row(trial) for trial in trials], columns=list(RUN_COLUMNS))
    runs = runs.sort_values(["N", "C", "seed"], ignore_index=True)
    first = next(trial for trial in trials if _score(trial) is not None)
    score = first.get("score") or {"unit": "", "kind": ""}
    # What no model can beat is known of likelihoods: a score in another unit has no such floor.
    floors = [trial["floor"] for trial in trials if trial["floor"]]
    floors = [floor for floor in floors if floor.get("unit", score["unit"]) == score["unit"]]
    return Part(
        name=name,
        title=title,
        family=first["family"],
        data=first["data"]["name"],
        unit=score["unit"],
        kind=score["kind"],
        data_unit=first["data"]["unit"],
        params_convention=first["convention"]["params"],
        flops_convention=first["convention"]["flops"],
        runs=runs,
        curves=_read_curves(folder, trials, score["unit"], unread, loss),
        samples=_read_samples(folder, runs, unread),
        missing=missing,
        floor={**UNSTATED, "unit": score["unit"], **floors[0]} if floors else None,
    )


def _row(trial: Trial) -> dict:
    """Return one row of the table of runs; floats keep their full precision."""
    loss = files.loss(trial)
    seconds = _number(trial.get("seconds"))
    spent = _number(trial.get("flops_spent"))
    score = trial.get("score") or {"unit": "", "kind": ""}
    _, params = files.counted(trial)
    return {
        "id": trial["id"],
        "part": trial["part"],
        "size": count(params),
        "seed": trial["seed"],
        "budget": _number(trial["budget"]),
        "N": params,
        "D": trial["data"]["amount"],
        "C": trial["flops"],
        "flops_6nd": trial.get("flops_6nd", math.nan),
        "flops_spent": spent,
        "loss": loss,
        "train_loss": _number(trial.get("train_loss")),
        "unit": score["unit"],
        "kind": score["kind"],
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


def _score(trial: Trial) -> float | None:
    """Return the finite score of a finished trial, or None."""
    loss = files.loss(trial)
    return loss if trial["status"] == "finished" and math.isfinite(loss) else None


def _flags(trial: Trial, loss: float) -> list[str]:
    """Return what a reader should know about a run before trusting its point."""
    flags = []
    if trial["status"] != "finished":
        flags.append(trial["status"])
    elif not math.isfinite(loss):
        flags.append("no score")
    if trial["data"]["epochs"] > 1:
        flags.append(f"repeats data ({trial['data']['epochs']:.1f} epochs)")
    if trial["schedule_end_step"] != trial["steps"]:
        flags.append("schedule outlives the run")
    if (warmup := trial["warmup_fraction"]) > 0.2:
        flags.append(f"warm-up is {warmup:.0%} of the run")
    return flags


def _read_curves(
    folder: Path, trials: list[Trial], unit: str, unread: list[str], loss: str | None
) -> pd.DataFrame:
    """Return the learning curves of all trials, each begun by the trunk it branched from.

    Curves that cannot be read are left out and added to `unread`.
    """
    trunks: dict[str, list[Row]] = {}
    tables = []
    for trial in trials:
        rows = _read_metrics(folder / trial["id"], unread, loss)
        trunk, branch = trial["trunk"], trial.get("branch_step")
        if rows and trunk and branch:
            if trunk not in trunks:
                trunks[trunk] = _read_metrics(folder / trunk, unread, loss)
            rows = [row for row in trunks[trunk] if row["step"] <= branch] + rows
        if rows:
            tables.append(_curve(trial, rows, unit))
    if not tables:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(tables, ignore_index=True)


def _curve(trial: Trial, rows: list[Row], unit: str) -> pd.DataFrame:
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
    _, params = files.counted(trial)
    about = {"id": trial["id"], "size": count(params), "seed": trial["seed"]}
    return means.assign(**about, N=params)[list(CURVE_COLUMNS)]


def _in_unit(row: Row, unit: str) -> float:
    """Return a row's loss in the unit of the score: a score, a bound in bits, or nats a token."""
    for value in (row.get("score"), row.get("bound")):
        if value is not None:
            return value
    return _number(row.get("loss")) / math.log(2) if unit != "bits/dim" else math.nan


def _read_metrics(run: Path, unread: list[str], loss: str | None) -> list[Row]:
    """The rows of a run; what they say of the score `loss` is their score where it is named."""
    path = run / METRICS
    try:
        found = read_rows(path)
        if loss is not None:
            found = [{**row, "score": row.get(f"score_{loss}", math.nan)} for row in found]
        return record.held_to(list[Row], found, path)
    except (OSError, ValueError) as error:
        unread.append(f"{path}: {error}")
    except UserError as error:
        unread.append(str(error))
    return []


def _read_samples(folder: Path, runs: pd.DataFrame, unread: list[str]) -> list[Sample]:
    """Return for each size what its longest-trained run with samples drew, smallest first.

    What lies elsewhere, behind a link, is not shown and added to `unread`.
    """
    samples = []
    for _, group in runs[runs.usable].groupby("N"):
        for row in group.sort_values(["C", "seed"], ascending=[False, True]).itertuples():
            sample = Sample(str(row.id), str(row.size), int(row.N), float(row.loss))  # type: ignore
            try:
                if sample := _drawn(folder, sample):
                    samples.append(sample)
                    break
            except (OSError, UserError) as error:
                unread.append(str(error))
    return samples


def _drawn(folder: Path, sample: Sample) -> Sample | None:
    """Return `sample` with the text or the picture that its run drew, None where it drew none."""
    text, image = (folder / sample.id / name for name in ("samples.txt", "samples.png"))
    if text.is_file():
        words = files.within(folder, text).read_text(errors="replace")[:SAMPLE_CHARACTERS]
        return dataclasses.replace(sample, text=words)
    if image.is_file():
        return dataclasses.replace(sample, png=files.within(folder, image).read_bytes())
    return None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
