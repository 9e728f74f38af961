"""A against B: how many times the FLOPs of B does A need for the same loss, and does that grow."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from research.scaling.compare import arms as runs
from research.scaling.compare.arms import Refused
from research.scaling.compare.shift_fit import Shift, fit
from research.scaling.compare.shift_law import Pairs
from research.scaling.compare.tuning import Tuned
from research.scaling.doubt.table_checks import (
    Finding,
    flagged_rows,
    found_by,
    schedule,
    sweep_edges,
    untuned,
    warmup,
)
from research.scaling.table import Table

CONSTANT = 0.1  # an exponent within it changes the multiplier by less than 1.26 in ten times
POINTS = 25  # of the multiplier's curve
AT = {"best": "the best sizes", "data": "equal sizes", "size": "equal data"}
Says = Literal["constant", "grows", "fades", "unknown"]


@dataclass(frozen=True)
class Multiplier:
    """A resource of A over the same of B at equal loss: `value` at `at_loss`, with its interval.

    `exponent` is that of the multiplier in B's resource, with its interval. `losses` and `resource`
    are the range that both arms reach, in losses and in B's resource, falling and rising. `curve`
    has rows (B's resource, loss, value, low, high); its intervals are pointwise.
    """

    value: float
    low: float
    high: float
    at_loss: float
    exponent: float
    trend_low: float
    trend_high: float
    losses: tuple[float, float]
    resource: tuple[float, float]
    p_value: float
    noise: float
    curve: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def says(self) -> Says:
        """What the interval of the exponent says of the multiplier as compute grows."""
        if self.trend_low > 0:
            return "grows"
        if self.trend_high < 0:
            return "fades"
        within = max(-self.trend_low, self.trend_high) <= CONSTANT
        return "constant" if within else "unknown"

    def to_json(self) -> dict[str, Any]:
        value = {name: getattr(self, name) for name in ("value", "low", "high", "at_loss")}
        ends = {"low": self.trend_low, "high": self.trend_high}
        return {
            "multiplier": value,
            "trend": {"exponent": self.exponent, **ends, "says": self.says},
            "range": {"loss": list(self.losses), "resource": list(self.resource)},
            "p_value": self.p_value,
        }


@dataclass(frozen=True)
class Comparison:
    """Arm `names[0]` against `names[1]`: of FLOPs, and of what else there are columns for.

    `p_value` is of no difference in the middle of the range, after the correction where one was
    made. A comparison that was refused has no `flops`; of `others` a text says why there is none.
    """

    names: tuple[str, str]
    flops: Multiplier | None
    others: dict[str, Multiplier | str] = field(default_factory=dict)
    paired: bool = False
    p_value: float | None = None
    level: float = 0.95
    findings: list[Finding] = field(default_factory=list)
    refused: str | None = None
    tuned: Tuned | None = None

    def to_json(self) -> dict[str, Any]:
        """As compare.json has it."""
        found: dict[str, Any] = {"multiplier": None, "trend": None, "range": None}
        if self.flops is not None:
            found = self.flops.to_json()
            found["range"] = {"loss": found["range"]["loss"], "flops": found["range"]["resource"]}
        return found | {
            "paired": self.paired,
            "p_value": self.p_value,
            "warnings": [finding.to_json() for finding in self.findings],
            "refused": self.refused,
            "arms": list(self.names),
            "level": self.level,
            "in": {
                name: {"refused": each} if isinstance(each, str) else each.to_json()
                for name, each in self.others.items()
            },
            "tuning": self.tuned.to_json() if self.tuned else {},
            "curve": [] if self.flops is None else [list(row) for row in self.flops.curve],
        }


def compare(arms: Mapping[str, Table], level: float = 0.95) -> Comparison:
    """Hold one arm against another; `arms` are two tables by name.

    Raises:
        Refused: arms that are not of one quantity, do not overlap, or are too few runs.
    """
    first, second = arms
    runs.check(arms)
    flops = _multiplier(arms, "C", "best", level)
    if flops is None:
        raise Refused("compute was not varied in both arms; expected two budgets or more")
    unit = next(iter(arms.values())).data_unit
    others: dict[str, Multiplier | str] = {}
    for name, column, what in (
        ("parameters", "N", "size"),
        (unit, "D", "data"),
        ("seconds", "seconds", "best"),
    ):
        if (found := _tried(arms, column, what, level)) is not None:
            others[name] = found
    pairs = runs.joined(arms, "C")
    assert pairs is not None
    return Comparison(
        names=(first, second), flops=flops, others=others, paired=bool(len(pairs.pairs)),
        p_value=flops.p_value, level=level, findings=_findings(arms, flops),
    )  # fmt: skip


def against_first(
    arms: Mapping[str, Table], level: float = 0.95, tuned: Tuned | None = None
) -> list[Comparison]:
    """The first arm against each other; one that is refused says so, unless it is the only one.

    Of several, p-values are corrected by Holm's steps (Holm 1979), which a warning says. What is
    known of how the arms were `tuned` is said with the first.

    Raises:
        Refused: as `compare`, of the first comparison.
    """
    first, *rest = arms
    found = []
    for other in rest:
        try:
            found.append(compare({first: arms[first], other: arms[other]}, level))
            if tuned is not None:
                doubts = [*tuned.findings[first], *tuned.findings[other], *found[-1].findings]
                found[-1] = replace(found[-1], findings=doubts)
        except Refused as error:
            if not found and len(rest) == 1:
                raise
            found.append(Comparison((first, other), None, level=level, refused=str(error)))
    return corrected([replace(found[0], tuned=tuned), *found[1:]])


def corrected(comparisons: list[Comparison]) -> list[Comparison]:
    """The comparisons with p-values that hold for all of them together."""
    known = [each for each in comparisons if each.p_value is not None]
    if len(known) < 2:
        return comparisons
    p = holm([float(each.p_value or 0.0) for each in known])
    by_name = {each.names: value for each, value in zip(known, p, strict=True)}
    text = "p-values are corrected for {comparisons} comparisons by Holm's steps; intervals are not"
    note = Finding.of(23, "many arms", text, comparisons=len(known))
    return [
        replace(each, p_value=by_name[each.names], findings=[*each.findings, note])
        if each.p_value is not None
        else each
        for each in comparisons
    ]


def holm(p: list[float]) -> list[float]:
    """p-values by Holm's steps: the k-th smallest of n times n - k + 1, never falling."""
    order = np.argsort(p)
    steps = np.minimum(np.array(p)[order] * (len(p) - np.arange(len(p))), 1.0)
    result = np.empty(len(p))
    result[order] = np.maximum.accumulate(steps)
    return result.tolist()


def _tried(
    arms: Mapping[str, Table], column: str, what: str, level: float
) -> Multiplier | str | None:
    """The multiplier of another resource, or why there is none; None where it is not known."""
    try:
        return _multiplier(arms, column, what, level)
    except Refused as error:
        return str(error)


def _multiplier(
    arms: Mapping[str, Table], column: str, what: str, level: float
) -> Multiplier | None:
    """The multiplier of one resource; None where it was not varied.

    Raises:
        Refused: the losses that both arms reach do not overlap, or do not fall with the resource.
    """
    of = runs.joined(arms, column, what)
    if of is None:
        return None
    same = _same_runs(of)
    shift = fit(of, held=same)
    centre = runs.middle(arms, column)
    if not same and shift.explained < 0.3:
        raise Refused(f"losses do not fall with {column}: no ratio of it can be read from them")
    losses = _overlap(shift, arms)
    law = shift.law
    far, near = (law.needed(loss, True) for loss in losses)
    at = float(law.frontier((near + far) / 2, True))
    value, low, high, p = shift.estimate(lambda law: law.log_multiplier(at), level)
    exponent, below, above, _ = shift.estimate(lambda law: law.trend(losses), level)
    if same:
        value = low = high = exponent = below = above = 0.0
    curve = []
    for x in np.linspace(near, far, POINTS):
        loss = float(law.frontier(x, True))
        band = shift.estimate(lambda law, loss=loss: law.log_multiplier(loss), level)[:3]
        curve.append((np.exp(x + centre), loss, *np.exp((0.0,) * 3 if same else band)))
    return Multiplier(
        *map(float, np.exp([value, low, high])),
        at_loss=at,
        exponent=exponent,
        trend_low=below,
        trend_high=above,
        losses=losses,
        resource=(float(np.exp(near + centre)), float(np.exp(far + centre))),
        p_value=1.0 if same else p,
        noise=shift.noise,
        curve=[tuple(map(float, row)) for row in curve],
    )


def _same_runs(of: Pairs) -> bool:
    """Whether both arms are the same runs, number by number, whatever their order."""
    n = np.zeros_like(of.loss) if of.size is None else of.size
    rows = np.stack([of.loss, of.resource, n], axis=1)
    both = [arm[np.lexsort(arm.T)] for arm in (rows[~of.second], rows[of.second])]
    return both[0].shape == both[1].shape and bool((both[0] == both[1]).all())


def _overlap(shift: Shift, arms: Mapping[str, Table]) -> tuple[float, float]:
    """The smallest and largest loss that the best sizes of both arms reach.

    Raises:
        Refused: there is none.
    """
    of, law, ends = shift.of, shift.law, []
    for second in (False, True):
        x = of.resource[of.second == second]
        ends.append((float(law.frontier(x.max(), second)), float(law.frontier(x.min(), second))))
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    if low >= high:
        said = ", ".join(
            f"{name} from {most:.4g} down to {least:.4g}"
            for name, (least, most) in zip(arms, ends, strict=True)
        )
        raise Refused(
            f"losses do not overlap at {AT[shift.of.what]}: {said}; train the worse longer"
        )
    return low, high


def _findings(arms: Mapping[str, Table], flops: Multiplier) -> list[Finding]:
    """What the tables of both arms earn, by the arm's name, and a short overlap."""
    found = []
    for name, table in arms.items():
        again = not table.known("N") and table.frame.duplicated("C").any()
        if again and "seed" not in table.frame:
            text = (
                "{arm} has several runs of one compute, taken for seeds; are they sizes? --params"
            )
            found.append(Finding.of(15, "resampling", text, arm=name))
        for each in found_by((warmup, schedule, sweep_edges, untuned, flagged_rows), table):
            found.append(replace(each, message=f"{name}: {each.message}"))
    decades = float(np.log10(flops.resource[1] / flops.resource[0]))
    if decades < 0.5:
        text = "both arms reach the same losses over {decades:.2g} decades of compute alone"
        found.append(Finding.of(13, "narrow range", text, decades=decades))
    return sorted(found, key=lambda finding: finding.code)
