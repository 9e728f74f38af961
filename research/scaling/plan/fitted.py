"""A law as `fit` wrote it into laws.json, checked key by key, for whoever predicts from it.

The file holds numbers and names, and nothing in it is run: a law of one's own comes from the file
of it that the command line names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.errors import UserError, nearest
from research.scaling.doubt import intervals, reach
from research.scaling.laws import LAWS, Law, named
from research.scaling.plan.optimal import FlopsModel

LARGEST = 1e300  # of a number in the file
COUNTS = ("N", "D", "C", "U")  # which are positive


@dataclass(frozen=True)
class Ladder:
    """How data grew with size in runs that climbed one line: D = ratio * at * (N / at)^power."""

    ratio: float
    power: float = 1.0
    at: float = 1.0

    @property
    def said(self) -> str:
        """The line in words."""
        plain = self.power == 1
        return f"D = {self.ratio:.4g} N" if plain else f"D grows as N^{self.power:.3g}"

    def data(self, params: np.ndarray) -> np.ndarray:
        """D of sizes on the line."""
        return self.ratio * self.at * (params / self.at) ** self.power

    def params(self, data: np.ndarray) -> np.ndarray:
        """N of amounts of data on the line."""
        return self.at * (data / (self.ratio * self.at)) ** (1 / self.power)

    def params_for(self, flops: np.ndarray, model: FlopsModel) -> np.ndarray:
        """N of the run on the line that spends `flops`."""
        one = model.factor * self.ratio * self.at ** (1 - self.power)
        return (flops / one) ** (1 / (model.power + self.power))


@dataclass(frozen=True)
class FittedLaw:
    """A law with its `point` [P] and bootstrap `draws` [S, P] (S = 0 where the file has none).

    `log` says whether `noise` and `inflation` are of log loss or, where losses may be below zero,
    of the loss itself. `ranges` are the smallest and largest value of each column fitted,
    `ladder` is how D went with N where it did in every run, `warnings` are the fit's own, `columns`
    the names that the table had for --params, --data and so on.
    """

    law: Law
    point: np.ndarray
    draws: np.ndarray
    level: float
    log: bool
    noise: float | None
    num_groups: int
    inflation: float
    ranges: Mapping[str, tuple[float, float]]
    model: FlopsModel
    ladder: Ladder | None
    data_unit: str
    loss_unit: str
    method: str
    warnings: list[str]
    columns: Mapping[str, str]

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the percentiles (see doubt/intervals.py)."""
        return intervals.degrees_of_freedom(self.num_groups, len(self.point))

    def too_far(self, wanted: Mapping[str, float]) -> str | None:
        """Check 13 of N, D and C, both ways: why the law may not be carried to `wanted`, or None.

        A law of compute alone asks nothing of the sizes.
        """
        wide = ("N", "C") if "N" in self.law.variables else ("C",)
        refused = reach.refusal(self.ranges, wanted, wide)
        units = [line for line in self.warnings if line.startswith("[1 units]")]
        return f"{refused} (the fit warned: {units[0]})" if refused and units else refused

    def doubts(self, beyond: Mapping[str, np.ndarray]) -> list[str]:
        """Warnings of a law that is carried so many decades `beyond` its runs (reach.beyond)."""
        said = reach.warnings(beyond)
        if not {"N", "D", "C"} & set(self.ranges):
            said.append("no fitted range in the file: how far this extrapolates is not known")
        return said if len(self.draws) else [*said, "no draws in the file: no intervals"]

    def interval(self, drawn: np.ndarray) -> np.ndarray | None:
        """Ends [2, R] of positive numbers drawn [S, R]; None of fewer than two draws."""
        if len(drawn) < 2:
            return None
        return np.exp(intervals.percentile(np.log(drawn), self.level, self.degrees))

    def loss_interval(self, loss: np.ndarray, drawn: np.ndarray) -> np.ndarray | None:
        """Ends [2, R] of the law's loss [R], from the draws' [S, R], widened by its backtests."""
        if len(drawn) < 2:
            return None
        middle, drawn = self._scaled(loss), self._scaled(drawn)
        return self._widened(middle, intervals.percentile(drawn, self.level, self.degrees))

    def run_interval(self, loss: np.ndarray, drawn: np.ndarray) -> np.ndarray | None:
        """The same of a new run's loss: the law's error and one run's own noise."""
        if len(drawn) < 2 or self.noise is None:
            return None
        middle, drawn = self._scaled(loss), self._scaled(drawn)
        spread = intervals.Spread(self.noise, self.num_groups, len(self.point))
        return self._widened(middle, intervals.predictive(middle, drawn, spread, self.level))

    def _scaled(self, loss: np.ndarray) -> np.ndarray:
        if not self.log:
            return loss
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(loss)

    def _widened(self, middle: np.ndarray, ends: np.ndarray) -> np.ndarray:
        ends = intervals.widen(ends, middle, self.inflation)
        return np.exp(ends) if self.log else ends


def read_law(content: Any, own: Law | None = None) -> FittedLaw:
    """Check what `fit` wrote; `own` is the law whose file the command line named, if it did.

    Raises:
        UserError: no law, a refused one, one that is not `own`, or a key of the wrong kind.
    """
    if not isinstance(content, dict) or "law" not in content or "parameters" not in content:
        raise UserError(
            "not a fitted law: expected the keys 'law' and 'parameters' that fit writes"
        )
    if content.get("refused") or content["parameters"] is None:
        said = content.get("refused") or "no reason in the file"
        raise UserError(f"the law was refused: {said}{_others(content)}")
    law = _law(content, own)
    kind = str(content.get("objective_kind"))
    unlogged = law.signed and kind.startswith("squares on loss,")  # before the key was written
    groups = _number(content, "num_groups", 0) or _number(content, "num_runs", 0)
    return FittedLaw(
        law=law,
        point=_point(content, law),
        draws=_draws(content, law),
        level=_number(content, "level", 0.95, 0.0, 1.0),
        log=bool(content.get("log", not unlogged)),
        noise=None if content.get("noise") is None else _number(content, "noise", 0.0),
        num_groups=int(groups),
        inflation=_number(content, "inflation", 1.0),
        ranges=_ranges(content),
        model=_flops_model(content, law),
        ladder=_ladder(content),
        data_unit=str(content.get("data_unit") or "tokens"),
        loss_unit=str(content.get("loss_unit") or ""),
        method=str(content.get("prediction_method") or "bootstrap"),
        warnings=_lines(content, "warnings"),
        columns=_columns(content),
    )


def _others(content: dict[str, Any]) -> str:
    """Which other parts of the file hold a law."""
    parts = content.get("parts")
    if not isinstance(parts, dict):
        return ""
    good = [k for k, v in parts.items() if isinstance(v, dict) and v.get("parameters")]
    return f"; the file holds a law of --part {', '.join(map(str, good))}" if good else ""


def _law(content: dict[str, Any], own: Law | None) -> Law:
    name = content["law"]
    if not isinstance(name, str):
        raise UserError(f"no law {repr(name)[:40]}: the key 'law' holds the name of one")
    if own is not None:
        if own.name != name:
            raise UserError(f"--law: the file was fitted by {name!r}, and this law is {own.name!r}")
        formula = content.get("formula", own.formula)
        if own.formula != formula:
            text = f"the law {name!r} is now {own.formula}, and was {str(formula)[:80]}"
            raise UserError(f"--law: {text} when it was fitted: fit it again")
        return own
    law = named(name)
    if law is None:
        file = content.get("law_file")
        which = f"--law {file}" if isinstance(file, str) else "--law FILE.py"
        raise UserError(
            f"no law {name[:40]!r} is ours{nearest(name[:40], LAWS)}: where it is your own,"
            f" give its file again: {which}"
        )
    return law


def _point(content: dict[str, Any], law: Law) -> np.ndarray:
    parameters = content["parameters"] if isinstance(content["parameters"], dict) else {}
    for name in law.names:
        if not _is_number(parameters.get(name)):
            value = repr(parameters.get(name))[:40]
            said = f"is {value}; expected a number" if name in parameters else "is missing"
            raise UserError(f"the law {law.name!r}: parameter {name!r} {said}")
    return np.array([float(parameters[name]) for name in law.names])


def _draws(content: dict[str, Any], law: Law) -> np.ndarray:
    size = len(law.parameters)
    try:
        draws = np.array(content.get("draws") or np.zeros((0, size)), float)
    except (TypeError, ValueError, OverflowError):
        draws = np.zeros(0)
    if draws.ndim != 2 or draws.shape[-1] != size:
        text = f"expected rows of {size} numbers, one for each parameter"
        raise UserError(f"the law {law.name!r}: its 'draws' are damaged: {text}")
    return draws


def _ranges(content: dict[str, Any]) -> dict[str, tuple[float, float]]:
    ranges, found = content.get("range"), {}
    if ranges is None:
        return found
    for name, ends in ranges.items() if isinstance(ranges, dict) else [("", [])]:
        pair = ends if isinstance(ends, list) and all(map(_is_number, ends)) else []
        if len(pair) != 2 or pair[0] > pair[1] or (name in COUNTS and pair[0] <= 0):
            raise UserError(
                f"the key 'range' is {str(ranges)[:80]}; expected [smallest, largest] of N, D and C"
            )
        found[name] = (float(pair[0]), float(pair[1]))
    return found


def _ladder(content: dict[str, Any]) -> Ladder | None:
    given = content.get("ratio")
    if given is None:
        return None
    line: dict[str, Any] = given if isinstance(given, dict) else {"D_over_N": given}
    ratio, power, at = line.get("D_over_N", 0.0), line.get("power", 1.0), line.get("at_N", 1.0)
    if not all(_is_number(number) and number > 0 for number in (ratio, power, at)):
        raise UserError(f"the key 'ratio' is {repr(line)[:60]}; expected D over N, a number over 0")
    return Ladder(float(ratio), float(power), float(at))


def _flops_model(content: dict[str, Any], law: Law) -> FlopsModel:
    flops = content.get("flops") or {"factor": 6.0, "power": 1.0}
    if isinstance(flops, dict) and set(flops) == {"factor", "power"}:
        factor, power = flops["factor"], flops["power"]
        if _is_number(factor) and _is_number(power) and factor > 0 and power > 0:
            return FlopsModel(float(factor), float(power))
    text = "expected a positive 'factor' and 'power'"
    raise UserError(f"the law {law.name!r}: its 'flops' are damaged: {text}")


def _is_number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and -LARGEST < value < LARGEST


def _number(content, key: str, default: float, low: float = 0.0, high: float = LARGEST) -> float:
    """A number between `low` and `high`, neither of them where `high` is a share's."""
    value = content.get(key)
    if value is None:
        return default
    inside = _is_number(value) and (low < value < high if high == 1 else low <= value <= high)
    if not inside:
        wanted = "a share such as 0.95" if high == 1 else "a number, 0 or more"
        raise UserError(f"the key {key!r} is {repr(value)[:40]}; expected {wanted}")
    return float(value)


def _lines(content: dict[str, Any], key: str) -> list[str]:
    value = content.get(key) or []
    return [str(line) for line in value] if isinstance(value, list) else [str(value)]


def _columns(content: dict[str, Any]) -> dict[str, str]:
    columns = content.get("columns")
    pairs = columns.items() if isinstance(columns, dict) else ()
    return {str(option): str(name) for option, name in pairs}
