"""Warnings a table earns before any fit. Numbers are those of the house's list of checks.

Each check is a function of a Table that returns a Finding or None.
"""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from research.numbers import few
from research.scaling.doubt import architecture, reach
from research.scaling.laws import Law
from research.scaling.table import OWN_GROUP, Table
from research.scaling.table.series import RUN_COLUMNS

TINY = 1e4  # the largest model or data set of a table has at least so many parameters or tokens
FINISHED = ("finished", "done", "ok", "completed", "complete", "success")
MOST_PAIRED = 20_000  # rows of a table that is searched for pairs
# Names of hyper-parameters beside those of check 5, as people write them.
SETTINGS = re.compile(
    r"(train\.)?((peak_|base_|max_)?lr|weight_decay|wd|b[12]|beta_?[12]|momentum|eps(ilon)?|\w*dropout"
    r"|clip(ping|_norm)?|warm_?up(_\w+)?|cooldown(_\w+)?|decay_\w+|label_smoothing|ema(_decay)?)",
    re.I,
)
OPEN_ENDED = ("constant", "wsd", "warmup_stable_decay", "trapezoidal", "cooldown")


@dataclass(frozen=True)
class Finding:
    """One warning: its check's number and name, a sentence, and the numbers that triggered it."""

    code: int
    name: str
    message: str
    numbers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, code: int, name: str, text: str, /, **numbers: Any) -> "Finding":
        """The warning whose sentence is `text` with the `numbers` in it."""
        return cls(code, name, text.format(**numbers), numbers)

    @property
    def line(self) -> str:
        """The warning as one line."""
        return f"[{self.code} {self.name}] {self.message}"

    def to_json(self) -> dict[str, Any]:
        """The warning as an object, for laws.json."""
        return asdict(self)


def found_by(checks: Iterable[Callable], *seen: Any) -> list[Finding]:
    """What `checks` find in what is `seen`: each gives a Finding, several or None; by number."""
    results = [check(*seen) for check in checks]
    several = [each if isinstance(each, list) else [each] for each in results if each]
    return sorted(itertools.chain(*several), key=lambda finding: finding.code)


def _over(
    code: int, name: str, values: np.ndarray | None, bound: float, text: str
) -> Finding | None:
    """A finding where `values` [rows] pass `bound`; `text` says {rows} and {largest}."""
    if values is None or not (values > bound).any():
        return None
    rows, largest = int((values > bound).sum()), float(values.max())
    return Finding.of(code, name, text, rows=rows, largest=largest)


def mixed_conventions(table: Table) -> Finding | None:
    """1 and 20: conventions, units, kinds and splits that differ between rows (Porian 2024)."""
    if not table.mixed:
        return None
    return Finding(1, "mixed table", "; ".join(table.mixed), {"mixed": list(table.mixed)})


def units(table: Table) -> Finding | None:
    """1: parameters or data so small that they are surely in millions or billions.

    A run folder of ours counts them one by one.
    """
    most = TINY if table.part is None else 0.0
    span = table.span(("N", "D")).items()
    small = [name for name, (low, high) in span if low < 100 or high < most]
    if not small:
        return None
    numbers = {name: list(ends) for name, ends in table.span(small).items()}
    runs = (f"{name} runs from {low:g} to {high:g}" for name, (low, high) in numbers.items())
    text = f"{'; '.join(runs)}: in billions? the law's A and B hold for this unit"
    return Finding(1, "units", text, numbers)


def flops_against_6nd(table: Table) -> Finding | None:
    """2: FLOPs over 5% off 6ND (off a constant multiple of ND when the data are not tokens)."""
    ratio = table["C"] / (6 * table["N"] * table["D"])
    base = 1.0 if table.data_unit == "tokens" else float(np.median(ratio))
    rule = "6ND" if base == 1.0 else f"{6 * base:.4g} ND"
    return _off(ratio / base, rule, {"base": 6 * base})


def flops_against_architecture(table: Table) -> Finding | None:
    """2: FLOPs over 5% off what the architecture's columns give, whatever is counted with it.

    Porian 2024: counting the head or not moves the exponent from .835 to .706.
    """
    counted = architecture.counted_flops(table)
    if not counted or table.data_unit != "tokens":
        return None
    ratios = {name: table["C"] / flops for name, flops in counted.items()}
    closest = min(ratios, key=lambda name: np.abs(np.log(ratios[name])).max())
    return _off(ratios[closest], f"the architecture's ({closest})", {"convention": closest})


def _off(ratio: np.ndarray, rule: str, numbers: dict[str, Any]) -> Finding | None:
    off = np.abs(ratio - 1) > 0.05
    if not off.any():
        return None
    low, high, count = float(ratio.min()), float(ratio.max()), int(off.sum())
    text = f"FLOPs are {low:.3g} to {high:.3g} times {rule}; over 5% off in {count} of {len(off)}"
    return Finding(2, "flops", f"{text} rows", {"ratio": [low, high], "rows": count, **numbers})


def warmup(table: Table) -> Finding | None:
    """3: warm-up over 20% of the tokens (Porian 2024: moves the exponent from .706 to .602)."""
    text = "warm-up takes over 20% of the tokens in {rows} rows (up to {largest:.0%})"
    return _over(3, "warm-up", table.numbers("warmup_fraction"), 0.2, text)


def schedule(table: Table) -> Finding | None:
    """4: a learning-rate schedule that ends after the run (Hoffmann 2022; Porian 2024).

    A constant rate, or one that waits and then cools down within the run, ends when it likes.
    """
    over = table.numbers("schedule_overhang")
    if over is not None and "schedule" in table.frame:
        kinds = table.frame["schedule"].astype(str).str.lower()
        over = np.where(kinds.isin(OPEN_ENDED), 0.0, over)
    text = "the learning-rate schedule ends after the run in {rows} rows"
    return _over(4, "schedule", over, 1.01, f"{text} (up to {{largest:.3g}} times its length)")


def sweep_edges(table: Table) -> list[Finding]:
    """5: the best learning rate or batch at the edge of its sweep, or one rate for every size."""
    found = []
    for column in ("learning_rate", "batch_size"):
        if table.numbers(column) is not None and (edges := at_edge(table, column)):
            text = f"best {column} is at the edge of its sweep in {{edges}} of {{sweeps}} sweeps"
            numbers = {"edges": edges[0], "sweeps": edges[1]}
            found.append(Finding.of(5, "sweep edge", text, **numbers))
    rates, decades = table.numbers("learning_rate"), np.log10(table["N"].max() / table["N"].min())
    if rates is not None and np.ptp(rates) == 0 and decades > 1:
        text = "one learning rate, {learning_rate:g}, for sizes over {decades:.1f} decades"
        numbers = {"learning_rate": float(rates[0]), "decades": decades}
        found.append(Finding.of(5, "not tuned per size", text, **numbers))
    return found


def untuned(table: Table) -> list[Finding]:
    """23: the best value of another hyper-parameter at the edge of its sweep (check 5's are two).

    Columns count by their names: of others nobody knows whether they were chosen or measured.
    """
    found = []
    for column in map(str, table.frame.columns):
        tried = SETTINGS.fullmatch(column) and column not in ("learning_rate", "batch_size")
        if tried and table.numbers(column) is not None and (edges := at_edge(table, column)):
            text = "best {column} is at the edge of its sweep in {edges} of {sweeps} cells: untuned"
            numbers = {"column": column, "edges": edges[0], "sweeps": edges[1]}
            found.append(Finding.of(23, "untuned", text, **numbers))
    return found


def at_edge(table: Table, column: str) -> tuple[int, int] | None:
    """In how many sweeps of three values or more at one N and D an end is best, and of how many."""
    best_first = table.frame.sort_values("L", kind="stable").groupby(["N", "D"])
    sweeps = best_first[column].agg(["first", "min", "max", "nunique"])
    sweeps = sweeps[sweeps["nunique"] >= 3]
    edges = int(sweeps[["min", "max"]].eq(sweeps["first"], axis=0).any(axis=1).sum())
    return (edges, len(sweeps)) if edges else None


def narrow_range(table: Table, names: tuple[str, ...] = ("N", "C")) -> Finding | None:
    """13: under 1.5 decades of N or 2 of C: nothing is said past 10 times the largest run."""
    span = table.span(names)
    short = reach.narrow(span, names)
    if short is None:
        return None
    text = f"{short}: do not extrapolate past {reach.REACH:g}x"
    return Finding(13, "narrow range", text, reach.decades(span))


def checkpoints(table: Table) -> Finding | None:
    """15: rows that are checkpoints of a few runs, told by themselves and resampled by run."""
    if table.checkpoints is None:
        return None
    text = "{rows} rows look like checkpoints of {runs} runs, one a value of"
    text += f" {table.checkpoints}, and are resampled by run; --group COLUMN says what a run is"
    runs = int(table.frame["group"].nunique())
    return Finding.of(15, "checkpoints", text, rows=len(table), runs=runs)


def resampling(table: Table) -> list[Finding]:
    """15: rows that are not independent runs, though the bootstrap takes them for such."""
    frame, found = table.frame, []
    if frame["group"].nunique() < len(frame):
        return []
    named = [name for name in RUN_COLUMNS if name in frame and frame[name].notna().all()]
    counts = {name: int(frame[name].astype(str).nunique()) for name in named}
    repeated = [name for name, count in counts.items() if count < len(frame)]
    if repeated and table.part is None:
        column = repeated[0]
        text = f"column {column!r} repeats: {len(frame)} rows of {counts[column]} runs are"
        text += f" resampled as if independent; --group {column}"
        numbers = {"rows": len(frame), "runs": counts[column]}
        found.append(Finding(15, "resampling", text, numbers))
    trunks = frame["trunk"].dropna() if "trunk" in frame else pd.Series()
    if trunks.nunique() < len(trunks):
        text = "{rows} runs branch from {trunks} trunks and are resampled as if independent"
        numbers = {"rows": len(trunks), "trunks": int(trunks.nunique())}
        found.append(Finding.of(15, "resampling", text, **numbers))
    return found


def flagged_rows(table: Table) -> list[Finding]:
    """18: diverged and failed rows left out, and rows that saw their data more than once."""
    said = [note for note in table.notes if "diverged" in note or "failed" in note]
    found = [Finding(18, "diverged", note, {}) for note in said]
    if "status" in table.frame:
        status = table.frame["status"]
        if bad := int((~status.isin(FINISHED) & status.notna()).sum()):
            text = "{rows} rows have a status other than finished and are fitted"
            found.append(Finding.of(18, "status", text, rows=bad))
    text = "{rows} rows repeat their data (up to {largest:.3g} epochs)"
    repeated = _over(18, "repeated data", _epochs(table), 1.0001, text)
    return [*found, repeated] if repeated else found


def _epochs(table: Table) -> np.ndarray | None:
    epochs = table.numbers("epochs")
    for name in ("U", "unique_tokens", "unique"):
        unique = table.numbers(name)
        if epochs is None and unique is not None and (unique > 0).all():
            epochs = table["D"] / unique
    return epochs


def duplicates(table: Table, law: Law | None = None) -> Finding | None:
    """19: rows with the same N, D (and whatever else the law reads) and loss to the last digit."""
    names = dict.fromkeys(("N", "D", *(law.variables if law else ()), "L"))
    same = table.frame.duplicated(table.known(names), keep="first")
    if not same.any():
        return None
    rows = [table.row_number(int(i)) for i in np.flatnonzero(same)]
    text = f"{len(rows)} duplicate rows (same N, D and loss as an earlier row): {few(rows)}"
    return Finding(19, "duplicates", text, {"rows": rows[:50], "count": len(rows)})


def below_floor(table: Table) -> Finding | None:
    """20: a loss under the known entropy of the source cannot be the loss it is called."""
    if table.floor is None or table["L"].min() >= table.floor:
        return None
    text = "the smallest loss {smallest:.6g} is below the source's floor {floor:.6g}"
    numbers = {"floor": table.floor, "smallest": float(table["L"].min())}
    return Finding.of(20, "below the floor", text, **numbers)


def paired_losses(table: Table) -> Finding | None:
    """20: a column of names by which the loss of one N, D and C differs: two losses in one column.

    A harmonised file holds losses and their exponentials; others hold one row a validation set.
    """
    keys = table.known("NDC")
    if not keys or len(table) > MOST_PAIRED or not table.frame.duplicated(keys).any():
        return None
    for column in table.frame.columns:
        if column == "group" or table.frame[column].dtype.kind in "fiub":
            continue
        rows = table.frame[[*keys, "L"]].assign(name=table.frame[column].astype(str))
        if not 2 <= rows["name"].nunique() <= 20:
            continue
        wide = np.log(rows[rows["L"] > 0].groupby([*keys, "name"])["L"].mean()).unstack("name")
        apart = (wide.max(axis=1) - wide.min(axis=1))[wide.count(axis=1) > 1]
        if len(apart) >= 3 and apart.median() > 0.1:
            name = "group" if column == OWN_GROUP else str(column)
            text = f"at the same N, D and C losses differ by {np.expm1(apart.median()):.0%}"
            numbers = {"column": name, "pairs": len(apart), "ratio": float(np.exp(apart.median()))}
            text += f" with column {name!r}: is this one loss? --where picks one"
            return Finding(20, "one loss", text, numbers)
    return None


def table_findings(table: Table, law: Law | None = None) -> list[Finding]:
    """Every warning of this file that `table` earns for `law`, in the order of the list."""
    spans = reach.sizes(law.variables if law else "NDC")
    checks = (
        *(mixed_conventions, units, flops_against_6nd, flops_against_architecture),
        *(warmup, schedule, below_floor, lambda table: duplicates(table, law), paired_losses),
        lambda table: narrow_range(table, spans),
        *(checkpoints, sweep_edges, untuned, resampling, flagged_rows),
    )
    return found_by(checks, table)
