"""A law as `fit` wrote it into laws.json, checked key by key, for whoever predicts from it.

The file holds numbers and names, and nothing in it is run: a law of one's own comes from the file
of it that the command line names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from research.errors import UserError, nearest
from research.run.record import Count, Number, held_to
from research.scaling.doubt import intervals, reach
from research.scaling.laws import LAWS, Law, named
from research.scaling.plan.optimal import FlopsModel

COUNTS = ("N", "D", "C", "U")  # which are positive
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e300)]
Ends = np.ndarray | None  # of intervals [2, R]; None without draws


class Ladder(msgspec.Struct, frozen=True, rename={"ratio": "D_over_N", "at": "at_N"}):
    """How data grew with size in runs that climbed one line: D = ratio * at * (N / at)^power."""

    ratio: Positive
    power: Positive = 1.0
    at: Positive = 1.0

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

    def params_for(self, flops: np.ndarray | float, model: FlopsModel) -> np.ndarray:
        """N of the run on the line that spends `flops`."""
        one = model.factor * self.ratio * self.at ** (1 - self.power)
        return (flops / one) ** (1 / (model.power + self.power))


class Flops(msgspec.Struct):
    """FLOPs as the fitted table counted them (see FlopsModel)."""

    factor: Positive
    power: Positive


class LawFile(msgspec.Struct):
    """The numbers of a laws.json that predictions rest on; its words are only shown."""

    law: str
    parameters: dict[str, Number]
    draws: list[list[Number]] | None = None
    level: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.95
    log: bool | None = None
    noise: Amount | None = None
    num_groups: Count = 0
    num_runs: Count = 0
    inflation: Amount = 1.0
    span: dict[str, tuple[Number, Number]] | None = msgspec.field(name="range", default=None)
    flops: Flops | None = None
    ratio: Ladder | Positive | None = None


@dataclass(frozen=True)
class FittedLaw:
    """A law with its `point` [P] and bootstrap `draws` [S, P] (S = 0 where the file has none).

    `noise` is None where the file does not say how runs scatter. `ranges` are the smallest and
    largest value of each column fitted, `ladder` is how D went with N where it did in every run,
    `warnings` are the fit's own, `columns` the names that the table had for --params, --data and so
    on.
    """

    law: Law
    point: np.ndarray
    draws: np.ndarray
    level: float
    noise: float | None
    spread: intervals.Spread
    ranges: Mapping[str, tuple[float, float]]
    model: FlopsModel
    ladder: Ladder | None
    data_unit: str
    loss_unit: str
    method: str
    warnings: list[str]
    columns: Mapping[str, str]

    def too_far(self, wanted: Mapping[str, float]) -> str | None:
        """Check 13, both ways: why the law may not be carried to `wanted` N, D and C, or None."""
        refused = reach.refusal(self.ranges, wanted, self.law.variables)
        units = [line for line in self.warnings if line.startswith("[1 units]")]
        return f"{refused} (the fit warned: {units[0]})" if refused and units else refused

    def doubts(self, beyond: Mapping[str, np.ndarray]) -> list[str]:
        """Warnings of a law that is carried so many decades `beyond` its runs (reach.beyond)."""
        said = reach.warnings(beyond)
        if not {"N", "D", "C"} & set(self.ranges):
            said.append("no fitted range in the file: how far this extrapolates is not known")
        return said if len(self.draws) else [*said, "no draws in the file: no intervals"]

    def interval(self, drawn: np.ndarray) -> Ends:
        """Ends [2, R] of positive numbers drawn [S, R]; None of fewer than two draws."""
        if len(drawn) < 2:
            return None
        return np.exp(intervals.percentile(np.log(drawn), self.level, self.spread.degrees))

    def loss_intervals(self, loss: np.ndarray, drawn: np.ndarray) -> tuple[Ends, Ends]:
        """Ends [2, R] of the law's loss [R] and of a new run's, from the draws' loss [S, R]."""
        if len(drawn) < 2:
            return None, None
        law, run = (self.spread.interval(loss, drawn, self.level, noise) for noise in (False, True))
        return law, None if self.noise is None else run


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
    file: LawFile = held_to(LawFile, content, "the fitted law")
    law = _law(file.law, content, own)
    size, draws, ranges = len(law.parameters), file.draws or [], file.span or {}
    for name in law.names:
        if name not in file.parameters:
            raise UserError(f"the law {law.name!r}: parameter {name!r} is missing")
    if any(len(draw) != size for draw in draws):
        text = f"expected rows of {size} numbers, one for each parameter"
        raise UserError(f"the law {law.name!r}: its 'draws' are damaged: {text}")
    for name, (low, high) in ranges.items():
        if low > high or (name in COUNTS and low <= 0):
            text = "expected [smallest, largest] of N, D and C"
            raise UserError(f"the key 'range' has {name} from {low:g} to {high:g}; {text}")
    kind = str(content.get("objective_kind"))
    unlogged = law.signed and kind.startswith("squares on loss,")  # before the key was written
    log = not unlogged if file.log is None else file.log
    groups = file.num_groups or file.num_runs
    warnings, columns = content.get("warnings") or [], content.get("columns")
    return FittedLaw(
        law=law,
        point=np.array([file.parameters[name] for name in law.names]),
        draws=np.array(draws, float).reshape(-1, size),
        level=file.level,
        noise=file.noise,
        spread=intervals.Spread(file.noise or 0.0, groups, size, log, file.inflation),
        ranges=ranges,
        model=FlopsModel(file.flops.factor, file.flops.power) if file.flops else FlopsModel(),
        ladder=Ladder(file.ratio) if isinstance(file.ratio, float | int) else file.ratio,
        data_unit=str(content.get("data_unit") or "tokens"),
        loss_unit=str(content.get("loss_unit") or ""),
        method=str(content.get("prediction_method") or "bootstrap"),
        warnings=list(map(str, warnings if isinstance(warnings, list) else [warnings])),
        columns={k: str(v) for k, v in columns.items()} if isinstance(columns, dict) else {},
    )


def _others(content: dict[str, Any]) -> str:
    """Which other parts of the file hold a law."""
    parts = content.get("parts")
    if not isinstance(parts, dict):
        return ""
    good = [k for k, v in parts.items() if isinstance(v, dict) and v.get("parameters")]
    return f"; the file holds a law of --part {', '.join(map(str, good))}" if good else ""


def _law(name: str, content: dict[str, Any], own: Law | None) -> Law:
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
