"""The runs of two arms made comparable: what may not be held against each other, what is shared."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy

from research.errors import UserError, nearest
from research.scaling.compare.shift import Runs
from research.scaling.doubt.table_checks import Finding
from research.scaling.table import UNSTATED, Table
from research.scaling.table.table import ONE_VALUE

# Columns of a table that must say the same of both arms.
SAME = (*ONE_VALUE, "data_unit", "fingerprint", "data_fingerprint", "dataset", "tokenizer")
RATE = re.compile(r"flops?\s*(/|_per_|\s+per\s+|p)\s*s(ec(onds?)?)?$|^[kmgtpe]flops$", re.I)
SEEDS = ("seed", "data_seed")
ABSURD = 1e3  # times the compute for the same losses: no recipe is so much better, a unit is
FEWEST = 3  # runs of an arm
PAIRED = 2 / 3  # of the smaller arm has a partner, where arms are said to be paired


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


def check(arms: Mapping[str, Table]) -> list[Finding]:
    """Refuse arms whose losses or compute are not the same quantity, or that are too few runs.

    What only one arm says is a finding.

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
    found = []
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
        if any(values) and not all(values):
            text = "{column} is said of {arm} alone: is it the same of both arms?"
            said = one if values[0] else other
            found.append(Finding.of(20, "one loss", text, column=column, arm=said))
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
    return found


def _values(table: Table, column: str) -> list[str]:
    """What a table says of `column`, if anything."""
    said = table.frame[column].dropna().astype(str).unique() if column in table.frame else ()
    return [text for text in said if text not in ("", UNSTATED)]


def joined(arms: Mapping[str, Table], resource: str) -> Runs | None:
    """Both arms by their column `resource`; None where it is not known, or was not varied.

    Runs of one cell share noise, as what the law misses there is common to its seeds; where so few
    cells leave no freedom to the law, those of one cell and seed.

    Raises:
        Refused: sizes were varied apart from it in one arm alone, or all runs share their noise.
    """
    first, second = arms.values()
    x, n = (logarithms(arms, name) for name in (resource, "N"))
    if not x or min(map(np.ptp, x)) < 0.05:
        return None
    sizes = [own - own.mean() for own in n] or [np.zeros(len(each)) for each in x]
    crossed = [_apart(own, each) for own, each in zip(sizes, x, strict=True)]
    if crossed[0] != crossed[1]:
        many, few = arms if crossed[0] else reversed([*arms])
        raise Refused(
            f"{many} was run at several sizes a budget, {few} at one: expected the same of both;"
            " --where picks sizes"
        )
    arm = np.repeat([0, 1], [len(first), len(second)])
    cell = np.concatenate(cells([first, second]))
    runs = Runs(
        resource=np.concatenate(x) - np.concatenate(x).mean(),
        size=np.concatenate(sizes),
        loss=np.log(np.concatenate([first["L"], second["L"]])),
        second=arm == 1,
        cell=pd.factorize(pd.Series(cell) + pd.Series(arm).astype(str))[0],
        cluster=_clusters(first, second, cell),
        crossed=all(crossed),
    )
    if len(np.unique(runs.cluster)) <= len(runs.names):
        seeds = np.concatenate(_keys(first, second))
        runs = replace(runs, cluster=_clusters(first, second, seeds))
    if len(np.unique(runs.cluster)) < 2:
        raise Refused("all runs are of one trunk or seed: expected two or more, to tell the noise")
    return runs


def logarithms(arms: Mapping[str, Table], name: str) -> list[np.ndarray]:
    """Logarithms [runs] of a column of each arm; none where one's are not all positive numbers."""
    columns = [values for table in arms.values() if (values := table.numbers(name)) is not None]
    known = len(columns) == len(arms) and all((values > 0).all() for values in columns)
    return [np.log(values) for values in columns] if known else []


def _apart(n: np.ndarray, x: np.ndarray) -> bool:
    """Whether `n` [runs] was varied apart from `x`: no curve of it explains all of it."""
    columns = np.vander(x - x.mean(), 3)
    rest = n - columns @ np.linalg.lstsq(columns, n)[0]
    return len(np.unique(n.round(6))) > 1 and bool(rest.std() > 0.1)


def cells(tables: Sequence[Table]) -> list[np.ndarray]:
    """The size and the budget of every run of each table, in words.

    Numbers with less than 2% between one and the next are the same.
    """
    rows = pd.concat([table.frame for table in tables], ignore_index=True)
    words = pd.Series("", rows.index)
    for names, text in ((("size", "N"), "size {}, "), (("budget", "C"), "{} FLOPs")):
        for name in [name for name in names if name in rows and rows[name].notna().all()][:1]:
            values = rows[name]
            if values.dtype.kind in "fiu":
                falls = np.log(values.sort_values()).diff() > 0.02
                values = values.groupby(falls.cumsum()).transform("median").map("{:.3g}".format)
            words += values.astype(str).map(text.format)
    return np.split(words.to_numpy(), np.cumsum([len(table) for table in tables])[:-1])


def _keys(first: Table, second: Table) -> list[np.ndarray]:
    """The cell and the seed of every run of each arm; where no seed is known each is its own."""
    found = []
    seed = [n for n in SEEDS if all(t.known([n]) for t in (first, second))][:1]
    for name, table, words in zip("AB", (first, second), cells([first, second]), strict=True):
        own = table[seed[0]] if seed else [f"{name}{k}" for k in range(len(table))]
        found.append(np.array([f"{cell} {each}" for cell, each in zip(words, own, strict=True)]))
    return found


def paired(first: Table, second: Table) -> bool:
    """Whether most runs of the smaller arm have one of the other's with the same cell and seed."""
    keys = [pd.Index(each) for each in _keys(first, second)]
    both = len(keys[0].intersection(keys[1]))
    enough = both >= max(PAIRED * min(map(len, keys)), FEWEST)
    return enough and not any(each.has_duplicates for each in keys)


def _clusters(first: Table, second: Table, labels: np.ndarray) -> np.ndarray:
    """Numbers [runs] of what shares noise: runs of one label or one trunk, and what these join."""
    names = [*labels]
    rows = [*range(len(names))]
    for arm, start, table in (("A", 0, first), ("B", len(first), second)):
        for k, trunk in enumerate(table.frame["trunk"] if "trunk" in table.frame else ()):
            if isinstance(trunk, str):
                names, rows = [*names, f"trunk {arm} {trunk}"], [*rows, start + k]
    count, columns = len(labels), pd.factorize(pd.Series(names))[0]
    joins = (np.ones(len(rows)), (rows, count + columns))
    graph = scipy.sparse.coo_array(joins, shape=(count + len(names),) * 2)
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:count]
