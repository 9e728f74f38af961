"""Read a run folder into the tables the report draws. The folder is the contract; see README."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
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
from research.sampling import pictures

UNSTATED = {"kind": "known", "source": "not stated"}  # of a floor
CURVE_POINTS = 48
SAMPLE_CHARACTERS = 700

# {column of the table of runs: its place in result.json}, of words and then of numbers.
WORDS = {"id": "id", "part": "part", "unit": "score.unit", "kind": "score.kind"}
NUMBERS = {
    "D": "data.amount", "C": "flops", "epochs": "data.epochs", "goodput": "goodput.share",
    **{name: name for name in (
        "seed", "budget", "flops_6nd", "flops_spent", "steps", "batch_size", "learning_rate",
        "seconds",
    )},
}  # fmt: skip
COMPUTED = ("size", "N", "loss", "gflops_per_second", "flags", "usable", "held_out")
RUN_COLUMNS = (*WORDS, *NUMBERS, *COMPUTED)
CURVE_COLUMNS = ["id", "size", "seed", "N", "D", "C", "step", "loss", "train_loss"]
NO_CURVES = pd.DataFrame(columns=CURVE_COLUMNS, dtype=float)


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
    """What one trained model drew: a text, or the bytes of a PNG, with a caption, or of a WAV."""

    id: str
    params: int
    loss: float
    text: str | None = None
    png: bytes = b""
    wav: bytes = b""
    caption: str = ""


@dataclass(frozen=True)
class Part:
    """One part of a study: its runs, their learning curves, their samples.

    `runs` has RUN_COLUMNS (N in parameters of `convention`, D in `data_unit`, C in FLOPs, loss in
    `unit`), `curves` has CURVE_COLUMNS (loss in `unit`, on validation data where the run was scored
    on the way and else on its own batches; train_loss as optimised); `missing` lists planned
    trials without a result; `floor` is the loss that no model can beat, where it is known, with its
    unit, kind and source.
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
    samples: list[Sample] = field(default_factory=list)
    album: list[Sample] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    floor: dict | None = None

    @cached_property
    def titles(self) -> dict[str, str]:
        """Axis titles by column, each with its unit and its convention."""
        return {
            "loss": f"Validation loss ({self.unit}, {self.kind})",
            "N": f"Parameters N ({self.params_convention.replace('_', '-')})",
            "D": f"Data D ({self.data_unit})",
            "curve_loss": f"Loss while training ({self.unit})",
            "train_loss": "Training loss (as optimised)",
        }

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The runs that are open to the fits."""
        return self.runs[self.runs.usable]

    @cached_property
    def relative(self) -> bool:
        """Whether a share of the loss means anything: a density's bits may pass zero."""
        return (self.usable.loss > 0).all() and (self.floor is None or self.floor["value"] > 0)


@dataclass(frozen=True)
class Study:
    """A run folder: its description, its parts, and where and with what it was made.

    `left_out` are titles of parts of which no trial has a score yet; `unread` says which files
    could not be read, and why; `flops` and `seconds` were spent in all, the shared trunks counted
    once; `time` is a table of where the time went (columns part, phase, seconds).
    """

    folder: Path
    title: str
    parts: list[Part]
    question: str = ""
    docstring: str = ""
    left_out: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    provenance: list[dict] = field(default_factory=list)
    flops: float = 0.0
    seconds: float = 0.0
    time: pd.DataFrame = field(default_factory=pd.DataFrame)


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
    unread = list(runs.unreadable.values())
    provenance, missing = _provenance(folder, unread), _missing(folder, study, runs, unread)
    about = study.get("parts", {})
    names = dict.fromkeys([*about, *(trial["part"] for trial in runs.trials)])
    titles = {name: about.get(name, {}).get("title") or name for name in names}
    parts = []
    for name, title in titles.items():
        trials = [trial for trial in runs.trials if trial["part"] == name]
        if any(map(_is_scored, trials)):
            part = _part(folder, trials, unread, loss)
            parts.append(replace(part, name=name, title=title, missing=missing.get(name, [])))
    if not parts:
        raise UserError(f"{folder}: every trial diverged or failed, so there is nothing to show")
    spent = [*runs.trials, *runs.trunks]
    shown = {part.name for part in parts}
    return Study(
        folder=folder,
        title=study.get("title") or study.get("study") or folder.name,
        question=study.get("question") or "",
        docstring=study.get("docstring") or "",
        parts=parts,
        left_out=[title for name, title in titles.items() if name not in shown],
        unread=[reason.replace(f"{folder}/", "") for reason in unread],
        provenance=provenance,
        flops=sum(run.get("flops_spent") or 0.0 for run in spent),
        seconds=sum(run.get("seconds") or 0.0 for run in spent),
        time=_time(spent, titles),
    )


def _tried(unread: list[str], read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` returns; None where that cannot be read, and `unread` has the reason."""
    try:
        return read(*arguments)
    except (OSError, UserError) as error:
        unread.append(str(error))
        return None


def _provenance(folder: Path, unread: list[str]) -> list[dict]:
    """Return where the runs came from, in order of id."""
    runs = [path.parent for path in sorted(folder.glob(f"*/{files.PROVENANCE}"))]
    found = {run.name: _tried(unread, files.read_provenance, run) for run in runs}
    return [{**content, "id": name} for name, content in found.items() if content]


def _missing(
    folder: Path, study: files.Description, runs: files.Runs, unread: list[str]
) -> dict[str, list[str]]:
    """Return the planned trials without a result, by part.

    study.json lists what was planned; without a list only trials that were begun can be named
    (a trunk has no budget).
    """
    known = [*(run["id"] for run in [*runs.trials, *runs.trunks]), *runs.unreadable]
    if study.get("trials"):
        return files.missing(study, known)
    missing: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*/config.json")):
        config = None if path.parent.name in known else _tried(unread, read_config, path.parent)
        if config and config.get("budget"):
            missing.setdefault(str(config.get("part", "")), []).append(path.parent.name)
    return missing


def _time(runs: Sequence[Run | Trial], titles: dict[str, str]) -> pd.DataFrame:
    """Return seconds by `part` (its title) and `phase`, summed over trials and trunks.

    Runs that do not say where their time went are left out.
    """
    rows = [
        (titles.get(run["part"], run["part"]), phase, seconds)
        for run in runs
        for phase, seconds in (run.get("goodput") or {"seconds": {}})["seconds"].items()
        if phase in PHASES
    ]
    table = pd.DataFrame(rows, columns=["part", "phase", "seconds"])
    return table.groupby(["part", "phase"], sort=False, as_index=False).sum()


def _part(folder: Path, trials: list[Trial], unread: list[str], loss: str | None) -> Part:
    """Read a part from its trials, at least one of which has a score."""
    first = next(filter(_is_scored, trials))
    score, runs = first.get("score") or {"unit": "", "kind": ""}, _runs(trials)
    # What no model can beat is known of likelihoods: a score in another unit has no such floor.
    floors = [trial["floor"] for trial in trials if trial["floor"]]
    floors = [floor for floor in floors if floor.get("unit", score["unit"]) == score["unit"]]
    return Part(
        name=first["part"],
        title=first["part"],
        family=first["family"],
        data=first["data"]["name"],
        unit=score["unit"],
        kind=score["kind"],
        data_unit=first["data"]["unit"],
        params_convention=first["convention"]["params"],
        flops_convention=first["convention"]["flops"],
        runs=runs,
        curves=_curves(folder, trials, score["kind"], unread, loss),
        samples=_samples(folder, runs, unread),
        album=_album(folder, runs, unread),
        floor={**UNSTATED, "unit": score["unit"], **floors[0]} if floors else None,
    )


def _runs(trials: list[Trial]) -> pd.DataFrame:
    """Return RUN_COLUMNS of the trials by size and compute; floats keep their full precision."""
    places = WORDS | NUMBERS
    found = pd.json_normalize(list(map(dict, trials))).reindex(columns=list(places.values()))
    found = found.set_axis(list(places), axis=1).astype(dict.fromkeys(NUMBERS, float))
    params = [files.counted(trial)[1] for trial in trials]
    computed = {
        "size": list(map(count, params)),
        "N": params,
        "loss": list(map(files.loss, trials)),
        "gflops_per_second": found.flops_spent / found.seconds.where(found.seconds > 0) / 1e9,
        "flags": [", ".join(_flags(trial)) for trial in trials],
        "usable": list(map(_is_scored, trials)),
        "held_out": False,
    }
    found = found.fillna(dict.fromkeys(WORDS, "")).assign(**computed)
    return found.sort_values(["N", "C", "seed"], ignore_index=True)


def _is_scored(trial: Trial) -> bool:
    return trial["status"] == "finished" and math.isfinite(files.loss(trial))


def _flags(trial: Trial) -> list[str]:
    """Return what a reader should know about a run before trusting its point."""
    flags = []
    if trial["status"] != "finished":
        failed = trial.get("failures", {}) if trial["status"] == files.FAILED else {}
        flags += [each["reason"] for each in failed.values()] or [trial["status"]]
    elif not math.isfinite(files.loss(trial)):
        flags.append("no score")
    if trial["data"]["epochs"] > 1:
        flags.append(f"repeats data ({trial['data']['epochs']:.1f} epochs)")
    if trial["schedule_end_step"] != trial["steps"]:
        flags.append("schedule outlives the run")
    if (warmup := trial["warmup_fraction"]) > 0.2:
        flags.append(f"warm-up is {warmup:.0%} of the run")
    return flags


def _curves(
    folder: Path, trials: list[Trial], kind: str, unread: list[str], loss: str | None
) -> pd.DataFrame:
    """Return the learning curves of all trials, each begun by the trunk it branched from."""

    @cache
    def rows_of(run: str) -> list[Row]:
        return _tried(unread, _metrics, folder / run / METRICS, loss) or []

    tables = [NO_CURVES]
    for trial in trials:
        rows = rows_of(trial["id"])
        if rows and trial["trunk"] and (branch := trial.get("branch_step")):
            rows = [row for row in rows_of(trial["trunk"]) if row["step"] <= branch] + rows
        if rows:
            tables.append(_curve(trial, rows, kind))
    return pd.concat(tables[1:], ignore_index=True) if tables[1:] else NO_CURVES


def _metrics(path: Path, loss: str | None) -> list[Row]:
    """The rows of a run; what they say of the score `loss` is their score where it is named."""
    found = read_rows(path)
    if loss is not None:
        found = [{**row, "score": row.get(f"score_{loss}", math.nan)} for row in found]
    return record.held_to(list[Row], found, path)


def _curve(trial: Trial, rows: list[Row], kind: str) -> pd.DataFrame:
    """Return one curve as means over bins even in log data: short enough to draw, and smooth."""
    table = pd.DataFrame(
        {
            "D": [float(row["amount"]) for row in rows],
            "C": [float(row["flops"]) for row in rows],
            "step": [row["step"] for row in rows],
            "loss": [_in_unit(row, kind) for row in rows],
            "train_loss": [row.get("loss") for row in rows],
        }
    ).astype(float)
    logs = np.log(table.D)
    width = max((logs.max() - logs.min()) / CURVE_POINTS, 1e-9)
    means = table[:-1].groupby((logs[:-1] / width).round()).mean()
    means = pd.concat([means, table[-1:]], ignore_index=True)
    # Nobody reads a curve to its tenth digit, and the page is smaller without.
    means = means.map(lambda value: float(f"{value:.5g}"))
    _, params = files.counted(trial)
    about = {"id": trial["id"], "size": count(params), "seed": trial["seed"]}
    return means.assign(**about, N=params)[CURVE_COLUMNS]


def _in_unit(row: Row, kind: str) -> float | None:
    """Return a row's loss in the unit of the score: a score, a bound in bits, or nats a token.

    What is optimised for an exact score are its nats; for another it may be anything.
    """
    for value in (row.get("score"), row.get("bound")):
        if value is not None:
            return value
    nats = row.get("loss")
    return nats / math.log(2) if nats is not None and kind == "exact" else None


def _samples(folder: Path, runs: pd.DataFrame, unread: list[str]) -> list[Sample]:
    """Return for each size what its longest-trained run with samples drew, smallest first.

    What lies elsewhere, behind a link, is not shown and added to `unread`.
    """
    samples = []
    longest = runs[runs.usable].sort_values(["C", "seed"], ascending=[False, True])
    for _, group in longest.groupby("N"):
        drawn = (_tried(unread, _drawn, folder, run) for run in group.to_dict("records"))
        samples.append(next(filter(None, drawn), None))
    return list(filter(None, samples))


def _album(folder: Path, runs: pd.DataFrame, unread: list[str]) -> list[Sample]:
    """Return the pictures of `sample --album`, smallest runs first."""
    usable = runs[runs.usable].sort_values(["N", "C", "seed"]).to_dict("records")
    albums = (_tried(unread, _pictures, folder, run) for run in usable)
    return [each for album in albums for each in album or ()]


def _pictures(folder: Path, run: dict[str, Any]) -> list[Sample]:
    found, about = [], (run["id"], run["N"], run["loss"])
    for path in sorted((folder / run["id"] / files.ALBUM).glob("*.png")):
        png = files.within(folder, path).read_bytes()
        found.append(Sample(*about, png=png, caption=pictures.caption(png)))
    return found


def _drawn(folder: Path, run: dict[str, Any]) -> Sample | None:
    """Return the text, the picture or the sound that a run drew, None where it drew none."""
    about = run["id"], run["N"], run["loss"]
    text, image, sound = (folder / run["id"] / f"samples.{each}" for each in ("txt", "png", "wav"))
    if text.is_file():
        words = files.within(folder, text).read_text(errors="replace")
        return Sample(*about, text=words[:SAMPLE_CHARACTERS])
    if image.is_file():
        return Sample(*about, png=files.within(folder, image).read_bytes())
    if sound.is_file():
        return Sample(*about, wav=files.within(folder, sound).read_bytes())
    return None
