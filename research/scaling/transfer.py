"""How far the best learning rate moves along an axis, and what it costs to keep the small end's.

At each place of the axis (a width, a depth, a horizon) a parabola in log2 of the rate goes through
the log losses within a factor of four of the lowest, each seed with a height of its own; its vertex
is the best rate. A line through the vertices is the drift. Its interval is Student's t of their
scatter about the line, by least squares: the noise, and what a parabola and a power miss, are in it
alike. Redraws of the runs' noise leave the latter out: where losses rise faster above the best rate
than below they held a third to a half of planted drifts at 95%. It takes three places or more, and
is wide where there are few.

What the small end's rate costs at the large end is read between the rates tried there, with an
interval from redraws of both ends by the noise about their parabolas.

Measured on 1,000 planted tables of 5 widths, 7 rates and 2 seeds with 1% of noise, 95% intervals
hold .959 of drifts, .960 of costs and .946 of best rates; where log losses have a cubic term a
tenth as large as the square, .964 of drifts and .966 of costs, but .25 of best rates, which are all
off to one side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy

from research.errors import UserError, nearest
from research.scaling.doubt.intervals import percentile
from research.scaling.table import Table

REACH = 2.01  # factors of two of the rate, about the lowest loss, that a parabola is put through
FEWEST = 3  # places of a line, and rates of a parabola
DRAWS = 500
Says = Literal["stays", "moves", "unknown"]


class Estimate(NamedTuple):
    """A number with the ends of its interval; an end that is not known is infinite, or 0."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """By name; an end that is not known is None."""
        known = self.low < self.high < np.inf
        return self._asdict() if known else {"value": self.value, "low": None, "high": None}


@dataclass(frozen=True)
class Best:
    """The best rate at one place of the axis; `why` says why it has none.

    `rate` and `loss` are those of the vertex; `parabola` [3] is of log loss in log2 of the rate,
    highest power first. `runs` has columns rate, loss, seed.
    """

    place: float
    runs: pd.DataFrame = field(repr=False)
    rate: Estimate | None = None
    loss: float | None = None
    parabola: np.ndarray | None = None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        rate = None if self.rate is None else self.rate.to_json()
        shown = {"place": self.place, "rate": rate, "loss": self.loss, "why": self.why}
        return shown | {"runs": len(self.runs)}


@dataclass(frozen=True)
class Transfer:
    """The best rates of one arm along an axis, and how they move.

    Attributes:
        exponent: of the best rate in the axis: rate ~ place^exponent.
        moved: factors of two by which the line's rate moves from the first place to the last.
        regret: share by which the loss at the last place is higher at the first's best rate; its
            value is that of the nearest rate tried, and `at_least` is set, where none reaches it.
        refused: why there are no such numbers.
    """

    over: str
    level: float
    best: list[Best]
    exponent: Estimate | None = None
    moved: Estimate | None = None
    regret: Estimate | None = None
    at_least: bool = False
    refused: str | None = None

    @property
    def says(self) -> Says:
        """Whether the rate is shown to move, or to stay within a factor of two."""
        if self.moved is None:
            return "unknown"
        if max(-self.moved.low, self.moved.high) < 1:
            return "stays"
        return "moves" if self.moved.low * self.moved.high > 0 else "unknown"

    def to_json(self) -> dict[str, Any]:
        """Estimates in full precision, and one entry a place."""
        found = {name: getattr(self, name) for name in ("exponent", "moved", "regret")}
        found = {name: None if each is None else each.to_json() for name, each in found.items()}
        kept = [each.place for each in self.best if each.why is None]
        found["range"] = [kept[0], kept[-1]] if kept else None
        more = {"at_least": self.at_least, "says": self.says, "refused": self.refused}
        best = [each.to_json() for each in self.best]
        return {"over": self.over, "level": self.level, **found, **more, "best": best}


def transfer(table: Table, over: str, rate: str = "learning_rate", level: float = 0.95) -> Transfer:
    """Find the best `rate` at each value of the column `over`, and how it moves.

    The runs are those of one arm: nothing else is varied but seeds, which a column `seed` names.

    Raises:
        UserError: no such column, values that have no logarithm, or several runs at one place,
            rate and seed.
    """
    columns = {
        name: positive(table, option, name) for option, name in (("--over", over), ("--rate", rate))
    }
    losses = positive_losses(table)
    frame = pd.DataFrame({"place": columns[over], "rate": columns[rate], "loss": losses})
    frame["seed"] = table.frame["seed"].to_numpy() if "seed" in table.frame else 0
    if (twice := frame.duplicated(["place", "rate", "seed"])).any():
        row = frame[twice].iloc[0]
        raise UserError(
            f"{table.source}: two runs at {over} {row.place:g}, {rate} {row.rate:g} and seed "
            f"{row.seed}: something else is varied; --where or --part picks one"
        )
    places = {float(place): runs for place, runs in frame.groupby("place")}  # type: ignore[arg-type]
    valleys = [
        _valley(
            place, np.log2(runs.rate.to_numpy()), np.log(runs.loss.to_numpy()), runs.seed.to_numpy()
        )
        for place, runs in places.items()
    ]
    best = [_best(each, places[each.place], level) for each in valleys]
    ends = [valley for valley in valleys if not valley.why]
    if len(ends) < FEWEST:
        why = "; ".join(f"{over} {each.place:g}: {each.why}" for each in best if each.why)
        said = f"{len(ends)} of {len(best)} values of {over} have a best rate; it takes {FEWEST}"
        return Transfer(over, level, best, refused=f"{said}{f' ({why})' if why else ''}")
    x, y = (np.array([getattr(each, name) for each in ends]) for name in ("place", "vertex"))
    exponent = power_law(2.0**y, {over: x}, level)[over]
    span = float(np.log2(x[-1] / x[0]))
    regret, at_least = _regret(ends[0], ends[-1], level)
    moved = Estimate(*(span * each for each in exponent))
    return Transfer(over, level, best, exponent, moved, regret, at_least)


def power_law(
    y: np.ndarray, x: Mapping[str, np.ndarray], level: float = 0.95
) -> dict[str, Estimate]:
    """y = c x_1^a x_2^b ... by least squares of logarithms: "c" and the powers, by name.

    With the best rates at many N and D, and the best batches at many D, it is the law of Li et al.
    (2025, arXiv 2503.04715): rate = c N^a D^b, batch = d D^g. Intervals are Student's t, and
    infinite where the points are as many as the numbers.

    Raises:
        UserError: fewer points than numbers, or a column of x that the others say.
    """
    design = np.stack([np.ones(len(y)), *(np.log(each) for each in x.values())], 1)
    degrees = len(y) - design.shape[1]
    if degrees < 0 or np.linalg.matrix_rank(design - [0, *design[:, 1:].mean(0)]) < design.shape[1]:
        raise UserError(
            f"{len(y)} best values do not tell a power of {' and of '.join(x)}: vary each apart"
        )
    solution, *_ = np.linalg.lstsq(design, np.log(y))
    rest = np.log(y) - design @ solution
    spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * (rest @ rest) / max(degrees, 1))
    reach = scipy.special.stdtrit(degrees, 0.5 + level / 2) * spread if degrees else np.inf
    ends = zip(solution, solution - reach, solution + reach, strict=True)
    (c, *powers) = (Estimate(*map(float, each)) for each in ends)
    return {"c": Estimate(*np.exp(c).tolist()), **dict(zip(x, powers, strict=True))}


@dataclass(frozen=True)
class _Valley:
    """Runs of one place, by rate, and the parabola through those about the lowest.

    u = log2 rate and y = log loss [runs]; `means` [rates] are of y over seeds at the log2 `rates`.
    y = a u^2 + b u + height of the seed: `design` [window, 2 + seeds] has a row a run of the
    `window` [runs], `solution` is of it.
    """

    place: float
    u: np.ndarray
    y: np.ndarray
    rates: np.ndarray
    means: np.ndarray
    window: np.ndarray
    design: np.ndarray
    solution: np.ndarray

    @property
    def vertex(self) -> float:
        return float(-self.solution[1] / self.solution[0] / 2)

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the noise."""
        return max(len(self.design) - self.design.shape[1], 0)

    @property
    def noise(self) -> float:
        """Of log loss; 0 where no run is left to tell it."""
        rest = self.y[self.window] - self.design @ self.solution
        return float(np.sqrt(rest @ rest / self.degrees)) if self.degrees else 0.0

    @property
    def why(self) -> str | None:
        """Why there is no best rate."""
        if len(self.rates) < FEWEST:
            return f"{len(self.rates)} rates; it takes {FEWEST}"
        lowest = self.means.argmin()
        if lowest in (0, len(self.rates) - 1):
            end = "highest" if lowest else "lowest"
            return f"edge: the {end} rate tried, {2.0 ** self.rates[lowest]:g}, is best"
        inside = self.u[self.window]
        if self.solution[0] <= 0 or not inside.min() < self.vertex < inside.max():
            return "no valley within the rates tried"
        return None


def _valley(place: float, u: np.ndarray, y: np.ndarray, seeds: np.ndarray) -> _Valley:
    rates, index = np.unique(u, return_inverse=True)
    means = np.bincount(index, y) / np.bincount(index)
    window = np.abs(u - rates[means.argmin()]) < REACH
    heights = seeds[window, None] == np.unique(seeds[window])
    design = np.column_stack([u[window] ** 2, u[window], heights])
    solution, *_ = np.linalg.lstsq(design, y[window])
    return _Valley(place, u, y, rates, means, window, design, solution)


def _best(valley: _Valley, runs: pd.DataFrame, level: float) -> Best:
    if valley.why:
        return Best(valley.place, runs, why=valley.why)
    a, b, *heights = valley.solution
    slope = np.array([b / a**2, -1 / a]) / 2  # of the vertex in a and b
    covariance = np.linalg.inv(valley.design.T @ valley.design)[:2, :2]
    error = valley.noise * np.sqrt(slope @ covariance @ slope)
    reach = scipy.special.stdtrit(valley.degrees, 0.5 + level / 2) * error if error else np.inf
    rate = Estimate(*(float(2.0 ** (valley.vertex + side)) for side in (0.0, -reach, reach)))
    height = float(np.mean(heights))
    loss = float(np.exp(height - b**2 / a / 4))
    return Best(valley.place, runs, rate, loss, np.array([a, b, height]))


def _regret(first: _Valley, last: _Valley, level: float) -> tuple[Estimate, bool]:
    """Share of the last place's loss paid at the first's best rate, and whether it is a bound.

    Between the rates tried the loss is the parabola and what the runs there add to it, in straight
    lines.
    """
    generator = np.random.default_rng(0)
    (a, b, _), (a_last, b_last, y) = (_redrawn(valley, generator) for valley in (first, last))
    vertices, rates = -b / a / 2, last.rates
    u = np.clip(vertices, rates[0], rates[-1])
    rest = y - np.outer(a_last, rates**2) - np.outer(b_last, rates)
    beside = [np.interp(each, rates, row) for each, row in zip(u, rest, strict=True)]
    height = rest[:, np.isin(rates, last.u[last.window])].mean(1)
    above = a_last * u**2 + b_last * u + beside - (height - b_last**2 / a_last / 4)
    paid = np.expm1(np.maximum(above, 0))
    low, high = percentile(paid[1:], level, min(first.degrees, last.degrees))
    return Estimate(*map(float, (paid[0], low, high))), bool(u[0] != vertices[0])


def _redrawn(valley: _Valley, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """a [S], b [S] and log losses [S, rates], means of seeds, of S redraws; as found, first.

    Within the window runs are redrawn about the parabola, elsewhere about themselves.
    """
    middle = valley.y.copy()
    middle[valley.window] = valley.design @ valley.solution
    scatter = valley.noise * generator.standard_normal((DRAWS, len(middle)))
    draws = np.vstack([valley.y, middle + scatter])
    (a, b, *_), *_ = np.linalg.lstsq(valley.design, draws[:, valley.window].T)
    of_rate = (valley.u[:, None] == valley.rates).astype(float)
    return a, b, draws @ (of_rate / of_rate.sum(0))


def positive_losses(table: Table) -> np.ndarray:
    """The losses [rows]; UserError where one has no logarithm."""
    if not (table["L"] > 0).all():
        raise UserError(f"{table.source}: losses of zero or less have no logarithm")
    return table["L"]


def positive(table: Table, option: str, name: str) -> np.ndarray:
    """The column `name`, which `option` asks for, of positive numbers; UserError else."""
    values = table.numbers(name)
    if name not in table.frame:
        raise UserError(
            f"{option}: no column {name!r} in {table.source}{nearest(name, map(str, table.frame))}"
        )
    if values is None or not (values > 0).all():
        raise UserError(f"{option} {name}: expected positive numbers in {table.source}")
    return values
