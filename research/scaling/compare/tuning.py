"""Tuning curves: what the best of k tries of a hyper-parameter scores, with exact bands.

Of n tries drawn independently, whatever their distribution F, the values F(y_(i)) of the ordered
losses are ordered uniforms: intervals of their beta distributions, widened until all of them hold
together with exactly the level asked for, are a band for F, and so for the median of the best of
any number of tries, where F is 1 - 2^(-1/k) (Lourie 2024, equal-tailed bands). No mean has such a
band without bounds on the losses; the expected best is the unbiased one of subsets of k (Dodge
2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import scipy

from research.errors import UserError, nearest
from research.scaling.compare.arms import cells
from research.scaling.doubt.table_checks import Finding, at_edge
from research.scaling.table import Table

FEWEST = 3  # tries of a curve


@dataclass(frozen=True)
class TuningCurve:
    """Loss of the best of `tries` [points]: expected, and its median with the band's ends.

    An end that the tries do not bound is infinite. A try that diverged has an infinite loss, where
    it is given; tables leave such runs out, and their curve is then that of the others.
    """

    tries: np.ndarray
    expected: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float

    def to_json(self) -> list[dict[str, Any]]:
        columns = ("tries", "expected", "median", "low", "high")
        rows = zip(*(getattr(self, name).tolist() for name in columns), strict=True)
        return [
            {name: v if np.isfinite(v) else None for name, v in zip(columns, row, strict=True)}
            for row in rows
        ]


def tuning_curve(losses: Sequence[float] | np.ndarray, level: float = 0.95) -> TuningCurve:
    """The tuning curve of independent tries by their losses [n], lower being better."""
    y = np.sort(np.nan_to_num(np.asarray(losses, float), nan=np.inf, posinf=np.inf))
    n = len(y)
    tries = np.arange(1, n + 1)
    place = 1 - 0.5 ** (1 / tries)
    low, high = cdf_band(n, level)
    median = y[np.ceil(place * n - 1e-9).astype(int) - 1]
    below, above = np.searchsorted(high, place), np.searchsorted(low, place)
    return TuningCurve(
        tries=tries,
        expected=np.array([_expected(y, k) for k in range(1, n + 1)]),
        median=median,
        low=np.concatenate([[-np.inf], y])[below],
        high=np.concatenate([y, [np.inf]])[above],
        level=level,
    )


def _expected(y: np.ndarray, k: int) -> float:
    """Mean of the smallest of every subset of k of the ordered `y`."""
    n, kept = len(y), np.arange(1, len(y) - k + 2)
    shares = scipy.special.comb(n - kept, k - 1) / scipy.special.comb(n, k)
    return float(np.sum(shares * y[: len(kept)]))


@lru_cache
def cdf_band(n: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends [n] each of F at the ordered values of a sample of n: all hold at once with `level`."""
    rank = np.arange(1, n + 1)

    def band(tail: float) -> tuple[np.ndarray, np.ndarray]:
        low, high = (scipy.special.betaincinv(rank, n + 1 - rank, q) for q in (tail, 1 - tail))
        return low, high

    def excess(log_tail: float) -> float:
        return held(*band(np.exp(log_tail))) - level

    ends = np.log((1 - level) / (4 * n)), np.log((1 - level) / 2)
    return band(np.exp(scipy.optimize.brentq(excess, *ends)) if n > 1 else (1 - level) / 2)


def held(low: np.ndarray, high: np.ndarray) -> float:
    """P(low_i <= U_(i) <= high_i for every i) of n ordered uniforms.

    Counts of uniforms below each end are those of a Poisson process with n points in all (Moscovich
    and Nadler 2017): one pass over the ends, a convolution each.
    """
    n = len(low)
    ends = np.concatenate([low, high, [1.0]])
    most = np.concatenate([np.arange(n), np.full(n, n), [n]])  # points below an end, at most
    least = np.concatenate([np.zeros(n, int), np.arange(1, n + 1), [n]])
    chance, at = np.zeros(n + 1), 0.0
    chance[0] = 1.0
    counts = np.arange(n + 1)
    for k in np.argsort(ends, kind="stable"):
        steps = scipy.stats.poisson.pmf(counts, n * (ends[k] - at))
        chance = np.convolve(chance, steps)[: n + 1]
        chance[(counts < least[k]) | (counts > most[k])] = 0.0
        at = ends[k]
    return float(chance[n] / scipy.stats.poisson.pmf(n, n))


@dataclass(frozen=True)
class Tuned:
    """Arms at the best of what was tried, and how their best loss falls with tries.

    `curves` has by cell a curve of each arm. `helps` has by cell and arm, but the first, the
    numbers of tries at which the arm's band lies below the first's; where it says nothing the bands
    meet, or so few tries bound neither.
    """

    arms: dict[str, Table]
    findings: dict[str, list[Finding]]
    curves: dict[str, dict[str, TuningCurve]]
    helps: dict[str, dict[str, list[int]]]

    def to_json(self) -> dict[str, Any]:
        """By cell: the curve of each arm, and at how many tries each is shown to help."""
        return {
            cell: {
                "curves": {name: curve.to_json() for name, curve in curves.items()},
                "helps": self.helps[cell],
            }
            for cell, curves in self.curves.items()
        }


def tune(arms: Mapping[str, Table], columns: Sequence[str], level: float = 0.95) -> Tuned:
    """Take each arm's best settings of `columns`, and draw how they were found.

    The bands of all arms hold together in a cell: each has its share of the error. They are of
    settings drawn at random; of a grid they are no more than a guide.

    Raises:
        UserError: no such column.
    """
    best, findings, tries = {}, {}, {}
    words = dict(zip(arms, cells([*arms.values()]), strict=True))
    for name, table in arms.items():
        for column in columns:
            if column not in table.frame:
                hint = nearest(column, map(str, table.frame))
                raise UserError(f"--tuned: no column {column!r} in {table.source}{hint}")
        frame = table.frame.assign(cell=words[name])
        mean = frame.groupby(["cell", *columns], dropna=False)["L"].mean()
        chosen = pd.MultiIndex.from_tuples(list(mean.groupby(level="cell").idxmin()))
        best[name] = table.select(pd.MultiIndex.from_frame(frame[["cell", *columns]]).isin(chosen))
        tries[name] = {cell: each.to_numpy() for cell, each in mean.groupby(level="cell")}
        findings[name] = _doubts(table, columns, name, max(map(len, tries[name].values())))
    counts = {name: int(np.median([*map(len, each.values())])) for name, each in tries.items()}
    first, *others = arms
    for other in others:
        if counts[first] != counts[other]:
            text = f"{first} was tried at {counts[first]} settings a cell, {other} at"
            numbers = {"tries": {name: counts[name] for name in (first, other)}}
            findings[other].append(Finding(23, "untuned", f"{text} {counts[other]}", numbers))
    curves: dict[str, dict[str, TuningCurve]] = {}
    own_level = 1 - (1 - level) / len(arms)
    for cell in tries[first]:
        losses = [each.get(cell, ()) for each in tries.values()]
        if min(map(len, losses)) >= FEWEST:
            curves[cell] = {
                name: tuning_curve(each, own_level) for name, each in zip(arms, losses, strict=True)
            }
    helps = {
        cell: {other: _better(both[first], both[other]) for other in others}
        for cell, both in curves.items()
    }
    return Tuned(best, findings, curves, helps)


def _doubts(table: Table, columns: Sequence[str], name: str, most: int) -> list[Finding]:
    """23: settings picked on the losses that are compared, and best ones at a sweep's edge."""
    found = []
    if most > 1:
        text = (
            "{arm} counts at the best of up to {tries} settings a cell, picked on the losses that"
            " are compared: too low, which no interval says; run the picked settings at new seeds"
        )
        found.append(Finding.of(23, "picked", text, arm=name, tries=most))
    for column in columns:
        if table.numbers(column) is not None and (edges := at_edge(table, column)):
            text = "{arm}: best {column} is the first or last tried in {edges} of {cells} cells"
            numbers = {"arm": name, "column": column, "edges": edges[0], "cells": edges[1]}
            found.append(Finding.of(23, "untuned", text, **numbers))
    return found


def _better(first: TuningCurve, other: TuningCurve) -> list[int]:
    """Numbers of tries at which the band of `other` lies below that of `first`."""
    count = min(len(first.tries), len(other.tries))
    return first.tries[:count][other.high[:count] < first.low[:count]].tolist()
