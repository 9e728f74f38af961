"""A table of runs: read from CSV, Parquet or a run folder, refused in one line when it is wrong.

The law lab sees nothing but this table: columns N (parameters), D (tokens or images), C (training
FLOPs), L (loss), `group` (what the bootstrap resamples), and any other column that was in the file.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from research.errors import UserError, nearest
from research.record import read_json

UNSTATED = "not stated"


@dataclass(frozen=True)
class Table:
    """Runs that may be fitted together, one a row.

    `frame` has float columns N, D, C, L and a string column `group`; from a run folder also id,
    seed, size, budget, status, epochs, warmup_fraction, schedule_overhang (end of the LR schedule
    over the end of the run), learning_rate, batch_size, trunk.
    `notes` says what reading did (rows dropped, columns derived); `mixed` names what must not be
    mixed in one fit and is (conventions, score units, kinds, splits).
    """

    frame: pd.DataFrame
    source: str
    convention: str = f"params: {UNSTATED}; flops: {UNSTATED}"
    loss_unit: str = UNSTATED
    data_unit: str = "tokens"
    floor: float | None = None
    part: str | None = None
    title: str | None = None
    notes: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.frame[name].to_numpy()

    def select(self, mask: np.ndarray, note: str | None = None) -> "Table":
        """Return the rows where `mask` holds, with `note` added to the notes."""
        notes = self.notes if note is None else (*self.notes, note)
        frame = self.frame.loc[np.asarray(mask, bool)].reset_index(drop=True)
        return Table(**{**self.__dict__, "frame": frame, "notes": notes})


def from_frame(
    frame: pd.DataFrame,
    *,
    params: str,
    data: str | None,
    loss: str,
    flops: str | None = None,
    group: str | None = None,
    where: str | None = None,
    source: str = "table",
) -> Table:
    """Build a Table from any data frame, given the names of its columns.

    `data` may be left out when `flops` is given (then D = C / 6N), and `flops` when `data` is
    (then C = 6ND); the convention says which was done.

    Raises:
        UserError: a missing column (the nearest is named), a bad value (its row is numbered), no
            rows, or a `where` that does not evaluate to true or false for every row.
    """
    frame = frame.reset_index(drop=True)
    if where is not None:
        frame = _filter(frame, where, source)
    if not len(frame):
        raise UserError(f"{source}: no rows" + (f" where {where}" if where else ""))
    if data is None and flops is None:
        raise UserError("--data: missing; name the column of tokens (or --flops, then D = C / 6N)")
    chosen = {"--params": params, "--data": data, "--loss": loss, "--flops": flops}
    values = {
        option: _numbers(frame, option, name, source)
        for option, name in chosen.items()
        if name is not None
    }
    size, score = values["--params"], values["--loss"]
    amount, compute = values.get("--data"), values.get("--flops")
    notes = ()
    if amount is None:
        amount, notes = compute / (6 * size), ("D computed as C / 6N",)
    if compute is None:
        compute, counted = 6 * size * amount, "6ND computed from the columns"
    else:
        counted = f"column {flops!r}"
    # Keep every other column: checks use what they know (seed, budget, epochs, learning_rate, ...).
    rest = frame.drop(columns=[c for c in ("N", "D", "C", "L", "group") if c in frame])
    rest = rest.reset_index(drop=True)
    if group is not None:
        labels = _column(frame, "--group", group, source).astype(str).to_numpy()
    else:
        labels = np.array([str(i) for i in range(len(frame))])
    result = rest.assign(N=size, D=amount, C=compute, L=score, group=labels)
    return Table(
        frame=result,
        source=source,
        convention=f"params: column {params!r}; flops: {counted}",
        notes=notes,
        mixed=_mixed(result, ("convention", "loss_unit", "unit", "score_kind", "split")),
        columns={k.strip("-"): v for k, v in {**chosen, "--group": group}.items() if v},
    )


def read_file(path: str | Path, **columns) -> Table:
    """Read a CSV, TSV or Parquet file; `columns` are those of `from_frame`.

    Raises:
        UserError: a missing, unreadable or empty file, the wrong delimiter, Parquet without
            pyarrow, or whatever `from_frame` refuses.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file{_sibling(path)}")
    if path.is_dir():
        raise UserError(f"{path}: a folder without study.json or results; expected a run folder")
    frame = _read_parquet(path) if path.suffix in (".parquet", ".pq") else _read_text(path)
    return from_frame(frame, source=str(path), **columns)


def read_runs(folder: str | Path) -> dict[str, Table]:
    """Read a run folder (runs/<study>) into one Table per part, in the study's order.

    Only results of trials are read: trunks and unfinished trials are skipped, diverged ones kept
    and flagged in `status`. N is the count the result's convention names, C the ledger's FLOPs,
    D the tokens or images, L the score; `group` is the trial.

    Raises:
        UserError: no such folder, no results in it, or a result that lacks a key.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder{_sibling(folder)}")
    paths = sorted(folder.glob("*/result.json"))
    rows = [(path, read_json(path)) for path in paths]
    rows = [(p, row) for p, row in rows if isinstance(row, dict) and row.get("role") == "trial"]
    if not rows:
        raise UserError(f"{folder}: no finished trial in it (no */result.json of a trial)")
    study_path = folder / "study.json"
    study = read_json(study_path) if study_path.exists() else {}
    if not isinstance(study, dict):
        raise UserError(f"{study_path}: not the description of a study")
    records = [_record(path, row) for path, row in rows]
    order = list(study.get("parts", {}))
    order += [p for p in dict.fromkeys(r["part"] for r in records) if p not in order]
    tables = {}
    for part in order:
        chosen = [record for record in records if record["part"] == part]
        if chosen:
            about = study.get("parts", {}).get(part, {})
            tables[part] = _part_table(pd.DataFrame(chosen), part, about.get("title"), folder)
    return tables


def _record(path: Path, row: dict) -> dict:
    try:
        counted = row["convention"]["params"].partition(",")[0]  # "total, head included"
        steps = row["steps"]
        return {
            "id": row["id"],
            "part": row["part"],
            "seed": row["seed"],
            "size": row["size"],
            "budget": np.nan if row["budget"] is None else float(row["budget"]),
            "status": row["status"],
            "N": float(row["params"][counted]),
            "D": float(row["data"]["amount"]),
            "C": float(row["flops"]),
            "L": _score(row["score"]["value"]),
            "group": row["id"],
            "epochs": float(row["data"]["epochs"]),
            "warmup_fraction": float(row["warmup_fraction"]),
            "schedule_overhang": float(row["schedule_end_step"]) / max(steps, 1),
            "learning_rate": float(row["learning_rate"]),
            "batch_size": float(row["batch_size"]),
            "trunk": row["trunk"],
            "convention": f"params: {counted}; flops: {row['convention']['flops']}",
            "loss_unit": row["score"]["unit"],
            "score_kind": row["score"]["kind"],
            "split": row["score"]["split"],
            "data_unit": row["data"]["unit"],
            "fingerprint": row["data"]["fingerprint"],
            "floor": (row["floor"] or {}).get("value"),
        }
    except KeyError as error:
        raise UserError(f"{path}: key {error} is missing; expected a trial's result") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not a trial's result: {error}") from error


def _score(value: object) -> float:
    # A diverged trial may carry null or a string such as "nan": it stays a row, flagged by status.
    return np.nan if value is None else float(value)  # type: ignore[arg-type]


def _part_table(frame: pd.DataFrame, part: str, title: str | None, folder: Path) -> Table:
    usable = (frame["status"] == "finished") & np.isfinite(frame["L"]) & (frame["L"] > 0)
    notes = []
    if not usable.all():
        lost = ", ".join(frame.loc[~usable, "id"])
        notes.append(f"{int((~usable).sum())} of {len(frame)} trials diverged, left out: {lost}")
    kept = frame.loc[usable].reset_index(drop=True)
    if not len(kept):
        raise UserError(f"{folder}: part {part!r}: every trial diverged")
    floors = [value for value in kept["floor"] if value is not None and np.isfinite(value)]
    return Table(
        frame=kept,
        source=str(folder),
        convention=str(kept["convention"].iloc[0]),
        loss_unit=str(kept["loss_unit"].iloc[0]),
        data_unit=str(kept["data_unit"].iloc[0]),
        floor=float(floors[0]) if floors else None,
        part=part,
        title=title,
        notes=tuple(notes),
        mixed=_mixed(
            kept, ("convention", "loss_unit", "score_kind", "split", "data_unit", "fingerprint")
        ),
    )


def _mixed(frame: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    """Name the columns that must hold one value in one fit, and hold several."""
    found = []
    for name in names:
        if name in frame and frame[name].nunique(dropna=False) > 1:
            some = ", ".join(repr(str(v)[:40]) for v in frame[name].unique()[:3])
            found.append(f"{name} takes {frame[name].nunique(dropna=False)} values ({some})")
    return tuple(found)


def _sibling(path: Path) -> str:
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    except Exception as error:  # pyarrow raises its own family of exceptions
        raise UserError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error


def _read_text(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix == ".tsv" else ","
    try:
        frame = pd.read_csv(path, sep=separator, skipinitialspace=True)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path}: the file is empty; expected a header and rows") from error
    except pd.errors.ParserError as error:
        raise UserError(f"{path}: not a CSV: {str(error).strip()}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(frame.columns) == 1:
        other = _other_delimiter(str(frame.columns[0]), separator)
        if other:
            raise UserError(f"{path}: columns are separated by {other!r}; expected {separator!r}")
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _other_delimiter(header: str, separator: str) -> str | None:
    try:
        found = csv.Sniffer().sniff(header, delimiters=",;\t| ").delimiter
    except csv.Error:
        return None
    return found if found != separator else None


def _filter(frame: pd.DataFrame, where: str, source: str) -> pd.DataFrame:
    try:
        mask = frame.eval(where)
    except pd.errors.UndefinedVariableError as error:
        name = str(error).split("'")[1]
        raise UserError(
            f"--where: no column {name!r} in {source}{nearest(name, map(str, frame.columns))}"
        ) from error
    except Exception as error:  # pandas evaluates free text: anything may go wrong
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"--where: cannot evaluate {where!r}: {reason}") from error
    if not (isinstance(mask, pd.Series) and mask.dtype == bool):
        raise UserError(f"--where: {where!r} is not true or false for each row")
    return frame.loc[mask]


def _column(frame: pd.DataFrame, option: str, name: str, source: str) -> pd.Series:
    if name not in frame:
        names = [str(column) for column in frame.columns]
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise UserError(
            f"{option}: no column {name!r} in {source}{nearest(name, names)}; it has {shown}"
        )
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise UserError(f"{option}: {source} has several columns called {name!r}")
    return column


def _numbers(frame: pd.DataFrame, option: str, name: str, source: str) -> np.ndarray:
    column = _column(frame, option, name, source)
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    missing = column.isna()
    for bad, what in (
        (numbers.isna() & ~missing, "not a number"),
        (missing, "missing (NaN)"),
        (np.isinf(numbers), "infinite"),
        (numbers <= 0, "not positive"),
    ):
        if bad.any():
            rows = column.index[bad] + 1
            shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            value = "" if what.startswith("missing") else f" ({str(column[rows[0] - 1])!r})"
            plural = "s" if len(rows) > 1 else ""
            raise UserError(f"{source}: column {name!r} is {what} in row{plural} {shown}{value}")
    return numbers.to_numpy()
