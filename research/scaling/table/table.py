"""A table of runs: read from CSV, Parquet or a run folder, refused in one line when it is wrong.

The law lab sees nothing but this table: columns N (parameters), D (tokens or images), C (training
FLOPs), L (loss), `group` (what the bootstrap resamples), and any other column that was in the file.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from research.errors import UserError
from research.numbers import few
from research.run import files, storage
from research.scaling.table.columns import (
    OPTIONS,
    finite_numbers,
    named_column,
    positive_numbers,
)
from research.scaling.table.expression import rows_where
from research.scaling.table.file import read_frame, sibling
from research.scaling.table.series import series_of
from research.scaling.table.shape import asked
from research.scaling.table.units import refuse_units

UNSTATED = "not stated"
OWN_GROUP = "group of the file"  # a column "group" that --group does not name
# Columns of anybody's table that must hold one value in one fit: what N, C and L are.
ONE_VALUE = (
    *("convention", "loss_unit", "unit", "score_kind", "split"),
    *("evaluation_set", "eval_set", "val_set", "ema", "ema_decay"),
    *("timestep_weighting", "loss_weighting"),
)


COUNTS = re.compile(
    r"(params?|parameters?|flops?|compute|loss|metric)[ _](count|counting|kind|type|definition)"
)


@dataclass(frozen=True)
class Table:
    """Runs that may be fitted together, one a row.

    `frame` has float columns N, D, C, L and a string column `group`; from a run folder also id,
    arm, seed, size, budget, status, epochs, warmup_fraction, schedule_overhang (end of the LR
    schedule over the end of the run), learning_rate, batch_size, trunk, seconds.
    `columns` maps each option (params, column experts) to the file's column, one of `names`.
    `rows` [rows] are the rows' numbers in the file, from 1 (None: as they come).
    N, D or C are NaN in every row where the table does not say them; see `known`.
    `notes` says what reading did (rows dropped, columns derived); `mixed` names what must not be
    mixed in one fit and is (conventions, score units, kinds, splits). `checkpoints` says by what
    the rows were told to be checkpoints of fewer runs, where `--group` had not said so: `group` is
    then the run.
    """

    frame: pd.DataFrame
    source: str
    convention: str = f"params: {UNSTATED}; flops: {UNSTATED}"
    loss_unit: str = UNSTATED
    data_unit: str = "tokens"
    floor: float | None = None
    choices: int | None = None
    rows: np.ndarray | None = None
    part: str | None = None
    title: str | None = None
    notes: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    checkpoints: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.frame[name].to_numpy()

    def known(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are columns with a number in every row."""
        return [name for name in names if name in self.frame and self.frame[name].notna().all()]

    def numbers(self, name: str) -> np.ndarray | None:
        """Column `name` [rows] where the table has it and it holds numbers alone, else None."""
        column = self.frame[name] if name in self.frame else None
        if column is None or column.dtype.kind not in "fiub" or column.isna().any():
            return None
        return column.to_numpy(float)

    def span(self, names: Iterable[str]) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of those of `names` that are known."""
        return {n: (float(self[n].min()), float(self[n].max())) for n in self.known(names)}

    def select(self, mask: np.ndarray, note: str | None = None) -> "Table":
        """Return the rows where `mask` holds, with `note` added to the notes."""
        notes = self.notes if note is None else (*self.notes, note)
        mask = np.asarray(mask, bool)
        frame = self.frame.loc[mask].reset_index(drop=True)
        rows = None if self.rows is None else self.rows[mask]
        return replace(self, frame=frame, rows=rows, notes=notes)

    def row_number(self, row: int) -> int:
        """What people call row `row` (from 0): its number in the file, from 1."""
        return row + 1 if self.rows is None else int(self.rows[row])


def from_frame(
    frame: pd.DataFrame,
    *,
    loss: str,
    params: str | None = None,
    data: str | None = None,
    flops: str | None = None,
    group: str | None = None,
    where: str | None = None,
    unique: str | None = None,
    extra: Mapping[str, str] | None = None,
    signed_loss: bool = False,
    choices: int | None = None,
    source: str = "table",
) -> Table:
    """Build a Table from any data frame, given the names of its columns.

    `data` may be left out when `flops` is given (then D = C / 6N), `flops` when `data` is (then
    C = 6ND), and `params` when both are (then N = C / 6D); the convention or a note says which was
    done. What a law does not read may be left out altogether: N, D or C are then NaN. `unique` is
    the column of unique data (the table's U); `extra` names the column of each further variable
    that a law reads. With `signed_loss` losses may be zero or less. `choices` is the number of
    answers to choose from, where the loss is an error (check 22).

    Raises:
        UserError: a missing column (the nearest is named), a bad value (its row is numbered), no
            rows, or a `where` that does not evaluate to true or false for every row.
    """
    own = {"N": params, "D": data, "L": loss, "C": flops, "U": unique}
    own = {name: column for name, column in own.items() if column is not None}
    further = dict(extra or {})
    _refuse_names(own, further)
    variables = own | further
    options = {OPTIONS.get(name, f"--column {name}"): name for name in variables}
    named = {option: variables[name] for option, name in options.items()}
    keys = {"--group": group}
    frame, said = asked(frame, named, source, keys=keys, where=where, loss=loss)
    rows = frame.index.to_numpy() + 1
    any_sign = {*further, *(["L"] if signed_loss else [])}
    found = {
        name: (finite_numbers if name in any_sign else positive_numbers)(
            frame, option, variables[name], source
        )
        for option, name in options.items()
    }
    refuse_units(found, own, rows, source)
    counted, notes = _complete(found, len(frame))
    found["group"] = np.arange(len(frame)).astype(str)
    if group is not None:
        found["group"] = named_column(frame, "--group", group, source).astype(str).to_numpy()
    # Keep every other column: checks use what they know (seed, budget, epochs, learning_rate, ...).
    rest = frame.rename(columns={"group": OWN_GROUP}).reset_index(drop=True)
    rest = rest.drop(columns=[name for name in found if name in rest])
    result = pd.concat([rest, pd.DataFrame(found)], axis=1)
    series = series_of(result) if group is None else None
    if series is not None:
        result["group"] = series[0]
    size = f"column {params!r}" if params else UNSTATED
    cost = f"column {flops!r}" if flops else counted
    return Table(
        frame=result,
        source=source,
        convention=f"params: {size}; flops: {cost}",
        choices=choices,
        rows=rows,
        names=tuple(map(str, frame.columns)),
        notes=(*said, *notes),
        checkpoints=series and series[1],
        mixed=_mixed(result, (*ONE_VALUE, *_conventions(result))),
        columns={k.removeprefix("--"): v for k, v in {**named, **keys}.items() if v},
    )


def _refuse_names(own: Mapping[str, str], further: Mapping[str, str]) -> None:
    """A column may be two things only where U is D, data seen once; a variable has one name."""
    for (one, column), (other, again) in itertools.combinations(own.items(), 2):
        if column == again and {one, other} != {"U", "D"}:
            raise UserError(f"{OPTIONS[one]} and {OPTIONS[other]} both name the column {column!r}")
    for name, column in further.items():
        if not name.isidentifier() or name in (*own, "N", "D", "C", "group"):
            raise UserError(f"--column {name}={column}: expected the name of a law's own variable")


def _complete(found: dict[str, np.ndarray], count: int) -> tuple[str, list[str]]:
    """Fill in N, D or C from the others, NaN where they do not say; how C was, and what was."""
    have, notes = set(found), []
    if {"N", "C"} <= have and "D" not in have:
        found["D"] = found["C"] / (6 * found["N"])
        notes = ["D computed as C / 6N"]
    elif {"D", "C"} <= have and "N" not in have:
        found["N"] = found["C"] / (6 * found["D"])
        notes = ["N computed as C / 6D"]
    for name in "ND":
        found.setdefault(name, np.full(count, np.nan))
    found.setdefault("C", 6 * found["N"] * found["D"])
    return "6ND computed from the columns" if {"N", "D"} <= have else UNSTATED, notes


def read_file(path: str | Path, **columns) -> Table:
    """Read a file or a pipe (see `read_frame`); `columns` are those of `from_frame`.

    Raises:
        UserError: whatever `read_frame` and `from_frame` refuse.
    """
    return from_frame(read_frame(path), source=str(path), **columns)


def read_runs(
    folder: str | Path, where: str | None = None, loss: str | None = None
) -> dict[str, Table]:
    """Read a run folder (runs/<study>) into one Table per part, in the study's order.

    `where` is an expression of the table's columns; a part in which it holds nowhere is left out.
    `loss` names the score that is L in place of the main one; parts without it are left out. Each
    score is a column too, score_NAME.

    Only results of trials are read: trunks and unfinished trials are skipped, and so are those that
    diverged or stopped early, which a note names. N is the count the result's convention names, C
    the ledger's FLOPs, D the tokens or images, L the score; `group` is the trial.

    Raises:
        UserError: no such folder, no result in it that can be read, no row `where`, or no score
            `loss` that is better when it is lower. A trial that cannot be read, or was planned and
            has no result, is named in the notes of the first table.
    """
    folder = storage.path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder{sibling(folder)}")
    runs = files.read_runs(folder, loss)
    if not runs.trials:
        for reason in runs.unreadable.values():
            raise UserError(f"{folder}: no trial in it that can be read: {reason}")
        raise UserError(f"{folder}: no finished trial in it (no */result.json of a trial)")
    there = (folder / files.STUDY).exists()
    study = files.read_description(folder) if there else files.Description()
    about = study.get("parts", {})
    rows, notes = [_record(trial) for trial in runs.trials], _absent(study, runs)
    if where is not None:
        mask = rows_where(pd.DataFrame(rows), where, "--where", str(folder))
        rows = list(itertools.compress(rows, mask))
        if not rows:
            raise UserError(f"{folder}: no rows where {where}")
        notes.append(f"{len(rows)} of {len(mask)} trials: where {where}")
    tables, lost = {}, []
    for part in dict.fromkeys([*about, *(row["part"] for row in rows)]):
        mine = [row for row in rows if row["part"] == part]
        usable = [row["status"] == "finished" and np.isfinite(row["L"]) for row in mine]
        if any(usable):
            title = about.get(part, {}).get("title")
            tables[part] = _part_table(pd.DataFrame(mine), usable, part, title, folder)
        elif mine:
            lost.append(part)
    if not tables:
        raise UserError(f"{folder}: part {lost[0]!r}: every trial diverged or failed")
    notes += [f"part {part!r} left out: every trial diverged or failed" for part in lost]
    first = next(iter(tables))  # where the folder's own notes are said, once
    tables[first] = replace(tables[first], notes=(*notes, *tables[first].notes))
    return tables


def _absent(study: files.Description, runs: files.Runs) -> list[str]:
    """What to say of the trials that are no rows."""
    notes = [f"1 trial could not be read: {reason}" for reason in runs.unreadable.values()]
    known = [*(trial["id"] for trial in runs.trials), *runs.unreadable]
    for part, trials in files.missing(study, known).items():
        notes.append(
            f"part {part!r}: {len(trials)} planned trials have no result: {few(trials, 4)}"
        )
    return notes


def _failures(row: files.Trial) -> str:
    """The names of a failed run's failures; none of one that diverged, as that says it all."""
    return ", ".join(row.get("failures", {})) if row["status"] == files.FAILED else ""


def _record(row: files.Trial) -> dict:
    counted, params = files.counted(row)
    score = row.get("score") or {"unit": UNSTATED, "kind": UNSTATED, "split": UNSTATED}
    return {
        **{f"score_{name}": files.value(each) for name, each in (row.get("scores") or {}).items()},
        "id": row["id"],
        "part": row["part"],
        "arm": row.get("arm", ""),
        "seed": row["seed"],
        "size": row["size"],
        "budget": np.nan if row["budget"] is None else row["budget"],
        "status": row["status"],
        "failures": _failures(row),
        "N": float(params),
        "D": row["data"]["amount"],
        "C": row["flops"],
        "L": files.loss(row),
        "group": row["id"],
        "epochs": row["data"]["epochs"],
        "warmup_fraction": row["warmup_fraction"],
        "schedule_overhang": row["schedule_end_step"] / max(row["steps"], 1),
        "learning_rate": row["learning_rate"],
        "batch_size": row["batch_size"],
        "trunk": row["trunk"],
        "convention": f"params: {counted}; flops: {row['convention']['flops']}",
        "loss_unit": score["unit"],
        "score_kind": score["kind"],
        "split": score["split"],
        "data_unit": row["data"]["unit"],
        "fingerprint": row["data"]["fingerprint"],
        "floor": (row["floor"] or {}).get("value"),
        "seconds": _seconds(row),
    }


def _seconds(row: files.Trial) -> float:
    """Wall-clock seconds of a whole run; of a branch at the speed of its own steps."""
    own, spent = row.get("seconds"), row.get("flops_spent")
    return own * row["flops"] / spent if own and spent else np.nan


def _part_table(
    frame: pd.DataFrame, usable: list[bool], part: str, title: str | None, folder: Path
) -> Table:
    """The table of a part, without what diverged, failed or stopped, which notes name."""
    lost = frame[~np.array(usable)]
    ends = lost["status"].where(lost["status"] == files.STOPPED, "diverged")
    ends = ends.where(lost["failures"] == "", "failed (" + lost["failures"] + ")")
    notes = [
        f"{len(ids)} of {len(frame)} trials {end}, left out: {', '.join(ids)}"
        for end, ids in lost["id"].groupby(ends)
    ]
    kept = frame[usable].reset_index(drop=True)
    first, floors = kept.iloc[0], kept["floor"].dropna()
    return Table(
        frame=kept,
        source=str(folder),
        convention=str(first["convention"]),
        loss_unit=str(first["loss_unit"]),
        data_unit=str(first["data_unit"]),
        floor=float(floors.iloc[0]) if len(floors) else None,
        part=part,
        title=title,
        notes=tuple(notes),
        mixed=_mixed(
            kept,
            ("arm", "convention", "loss_unit", "score_kind", "split", "data_unit", "fingerprint"),
        ),
    )


def _conventions(frame: pd.DataFrame) -> list[str]:
    """Text columns that name what N, C or L count: "param_count", "flops kind", "loss_type"."""
    texts = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    return [str(c) for c in texts if COUNTS.fullmatch(str(c).lower())]


def _mixed(frame: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    """Name the columns that must hold one value in one fit, and hold several."""
    found = []
    for name in names:
        values = frame[name].astype(str).unique() if name in frame else []
        if len(values) > 1:
            some = ", ".join(repr(value[:40]) for value in values[:3])
            found.append(f"{name} takes {len(values)} values ({some})")
    return tuple(found)
