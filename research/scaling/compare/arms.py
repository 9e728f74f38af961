"""The runs of two arms made comparable: what may not be held against each other, and who pairs."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from research.errors import UserError, nearest
from research.scaling.compare.shift_law import Pairs
from research.scaling.table import UNSTATED, Table
from research.scaling.table.table import ONE_VALUE

# Columns of a table that must say the same of both arms.
SAME = (*ONE_VALUE, "data_unit", "fingerprint", "data_fingerprint", "dataset", "tokenizer")
RATE = re.compile(r"flops?\s*(/|_per_|\s+per\s+|p)\s*s(ec(onds?)?)?$|^[kmgtpe]flops$", re.I)
SEEDS = ("seed", "data_seed")
ABSURD = 1e3  # times the compute for the same losses: no recipe is so much better, a unit is
FEWEST = 3  # runs of an arm
PAIRED = 2 / 3  # of the smaller arm: fewer pairs than that tell too little of what they share


class Refused(UserError):
    """Arms that cannot be held against each other: an answer, said in one line."""


def split(table: Table, column: str, names: list[str]) -> dict[str, Table]:
    """The arms of a table, by the values of `column`.

    Raises:
        UserError: no such column, or no such value in it (the nearest is named).
    """
    if column not in table.frame:
        known = [name for name in table.frame if not str(name).startswith("score_")]
        hint = nearest(column, map(str, known))
        raise UserError(f"--by: no column {column!r} in {table.source}{hint}")
    labels = table.frame[column].astype(str)
    found = {}
    for name in names:
        if not (labels == name).any():
            known = sorted(label for label in labels.unique() if label)
            has = f"it has {', '.join(known)}" if known else "its runs have no label"
            where = f"{table.source}{f', part {table.part!r}' if table.part else ''}"
            raise UserError(f"--arms: no {column} {name!r} in {where}{nearest(name, known)}; {has}")
        found[name] = table.select((labels == name).to_numpy())
    return found


def check(arms: Mapping[str, Table]) -> None:
    """Refuse arms whose losses or compute are not the same quantity, or that are too few runs.

    Raises:
        Refused: naming the first thing that differs, and both of its values.
    """
    for name, table in arms.items():
        flops = table.columns.get("flops", "")
        if RATE.search(flops):
            raise Refused(f"column {flops!r} of {name} is a rate: expected FLOPs, not FLOP/s")
        if not (table["L"] > 0).all():
            raise Refused(
                f"{name} has losses of zero or less: no ratio of compute is read from them"
            )
    (one, first), (other, second) = arms.items()
    for column in SAME:
        values = [_values(table, column) for table in (first, second)]
        for name, each in zip(arms, values, strict=True):
            if len(each) > 1:
                raise Refused(f"{name} mixes {column}: {' and '.join(each[:2])}; --where picks one")
        if all(values) and values[0] != values[1]:
            texts = [each[0][:60] for each in values]
            raise Refused(
                f"{column} differs: {one} has {texts[0]!r}, {other} {texts[1]!r}; "
                "only runs of one score on the same data are compared"
            )
    for name, table in arms.items():
        if len(table) == 1:
            raise Refused(f"{name} is one run: expected {FEWEST} or more, at two budgets or more")
        if len(table) < FEWEST or np.ptp(np.log(table["C"])) < 0.05:
            raise Refused(
                f"{name} has {len(table)} runs from {table['C'].min():.3g} to"
                f" {table['C'].max():.3g} FLOPs: expected {FEWEST} or more, at two budgets or more"
            )
    (low, high), (least, most) = ((t["L"].min(), t["L"].max()) for t in (first, second))
    if low > most or least > high:
        raise Refused(
            f"losses do not overlap: {one} has {low:.4g} to {high:.4g}, {other} {least:.4g} to"
            f" {most:.4g}; train the worse of them longer"
        )
    times = float(np.median(first["C"]) / np.median(second["C"]))
    if not 1 / ABSURD < times < ABSURD:
        column = first.columns.get("flops", "C")
        raise Refused(
            f"{one} has {times:.2g} times the {column!r} of {other} at the same losses: is one of"
            " them in another unit (FLOP/s, PF-days)? expected FLOPs in both"
        )


def _values(table: Table, column: str) -> list[str]:
    """What a table says of `column`, if anything."""
    if column == "data_unit" and column not in table.frame:
        return []
    if column not in table.frame:
        return []
    texts = table.frame[column].dropna().astype(str).unique()
    return [text for text in texts if text not in ("", UNSTATED)]


def joined(arms: Mapping[str, Table], resource: str, what: str = "best") -> Pairs | None:
    """Both arms by their column `resource`; None where it is not known, or was not varied.

    `what` is that of `Pairs`. Sizes enter where they were varied apart from the resource.
    """
    first, second = arms.values()
    x = _both(arms, resource)
    if x is None or min(np.ptp(x[: len(first)]), np.ptp(x[len(first) :])) < 0.05:
        return None
    n = _both(arms, {"best": "N", "data": "N", "size": "D"}[what])
    crossed = n is not None and _apart(n, x)
    if n is not None and not crossed and what == "size" and np.ptp(n) > 0.05:
        n = None  # a ladder: data grow with the size
    centred = n - n.mean() if n is not None and crossed else None
    return Pairs(
        size=centred,
        resource=x - x.mean(),
        loss=np.log(np.concatenate([first["L"], second["L"]])),
        second=np.arange(len(x)) >= len(first),
        pairs=_pairs(first, second),
        cluster=_clusters(first, second),
        what=what if centred is not None else "best",
    )


def middle(arms: Mapping[str, Table], resource: str) -> float:
    """What `joined` counts logarithms of a resource from."""
    x = _both(arms, resource)
    assert x is not None
    return float(x.mean())


def _both(arms: Mapping[str, Table], name: str) -> np.ndarray | None:
    """Logarithms [runs] of a column of both arms, or None where it is not all positive numbers."""
    known = [values for t in arms.values() if (values := t.numbers(name)) is not None]
    if len(known) < len(arms) or not all((values > 0).all() for values in known):
        return None
    return np.log(np.concatenate(known))


def _apart(n: np.ndarray, x: np.ndarray) -> bool:
    """Whether `n` [runs] was varied apart from `x`: no curve of it explains all of it."""
    if len(np.unique(n.round(6))) < 2:
        return False
    columns = np.vander(x - x.mean(), 3)
    rest = n - columns @ np.linalg.lstsq(columns, n)[0]
    return bool(rest.std() > 0.1)


def _keys(table: Table, names: list[str]) -> pd.MultiIndex:
    columns = [
        pd.Series(np.log(table["C"])).round(2) if name == "C" else table.frame[name].astype(str)
        for name in names
    ]
    return pd.MultiIndex.from_arrays(columns)


def _pairs(first: Table, second: Table) -> np.ndarray:
    """Rows [pairs, 2] of the runs that differ in the arm alone: size, budget and seed are one.

    None where the cells do not tell the runs of an arm apart, or too few of them are in both.
    """

    def known(name: str) -> bool:
        return all(
            name in table.frame and table.frame[name].notna().all() for table in (first, second)
        )

    size = [name for name in ("size", "N") if known(name)][:1]
    budget = [name for name in ("budget", "C") if known(name)][:1]
    seed = [name for name in SEEDS if known(name)][:1]
    keys = [_keys(table, [*size, *budget, *seed]) for table in (first, second)]
    if any(each.has_duplicates for each in keys):
        return np.zeros((0, 2), int)
    place = keys[1].get_indexer(keys[0])
    rows = np.flatnonzero(place >= 0)
    if len(rows) < max(PAIRED * min(len(first), len(second)), FEWEST):
        return np.zeros((0, 2), int)
    return np.stack([rows, len(first) + place[rows]], axis=1)


def _clusters(first: Table, second: Table) -> np.ndarray:
    """Numbers [runs] of what shares noise: the branches of a trunk, else each run by itself."""
    labels: list[str] = []
    for arm, table in enumerate((first, second)):
        own = [f"{arm} run {k}" for k in range(len(table))]
        if "trunk" in table.frame:
            trunks = table.frame["trunk"]
            own = [
                f"{arm} {t}" if isinstance(t, str) else o for t, o in zip(trunks, own, strict=True)
            ]
        labels += own
    return pd.factorize(pd.Series(labels))[0]
