"""A against B: how many times the FLOPs of B does A need for the same loss, and does that grow."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from research.scaling.compare.arms import Refused, check, joined, logarithms, paired
from research.scaling.compare.shift import Interval, Law, Shift, fit
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
POINTS = 25  # of the multiplier's curve; the one in the middle is where `value` is
Says = Literal["constant", "grows", "fades", "unknown"]


@dataclass(frozen=True)
class Multiplier:
    """A resource of A over the same of B at equal loss: its interval at `at_loss`, and its trend.

    `trend` is the exponent of the multiplier in B's compute, or seconds; parameters have none, as
    the law says that they differ by a factor. `losses` and `resource` are the range that both arms
    reach, in losses and in B's resource, falling and rising. `curve` has rows (B's resource, loss,
    value, low, high); its intervals are pointwise.
    """

    value: Interval
    at_loss: float
    trend: Interval | None
    losses: tuple[float, float]
    resource: tuple[float, float]
    p_value: float
    curve: list[tuple[float, ...]] = field(repr=False)

    @property
    def says(self) -> Says:
        """What the interval of the trend says: first whether it is too small to matter."""
        if self.trend is None:
            return "unknown"
        if -CONSTANT <= self.trend.low and self.trend.high <= CONSTANT:
            return "constant"
        if self.trend.low > 0:
            return "grows"
        return "fades" if self.trend.high < 0 else "unknown"

    def to_json(self, name: str) -> dict[str, Any]:
        """As compare.json has it, for the resource `name`."""
        trend = None
        if self.trend is not None:
            exponent, low, high = self.trend
            trend = {"exponent": exponent, "low": low, "high": high, "says": self.says}
        return {
            "multiplier": {**self.value._asdict(), "at_loss": self.at_loss},
            "trend": trend,
            "range": {"loss": list(self.losses), name: list(self.resource)},
            "p_value": self.p_value,
        }


@dataclass(frozen=True)
class Comparison:
    """Arm `names[0]` against `names[1]`: of FLOPs, and of what else there are columns for.

    `p_value` is of no difference in the middle of the range, after the correction where one was
    made. A comparison that was refused has no `flops`; of `others` a text says why there is none.
    """

    names: tuple[str, str]
    flops: Multiplier | None = None
    others: dict[str, Multiplier | str] = field(default_factory=dict)
    paired: bool = False
    p_value: float | None = None
    level: float = 0.95
    findings: list[Finding] = field(default_factory=list)
    refused: str | None = None
    tuned: Tuned | None = None

    def to_json(self) -> dict[str, Any]:
        """As compare.json has it."""
        nothing: dict[str, Any] = {"multiplier": None, "trend": None, "range": None}
        return (self.flops.to_json("flops") if self.flops else nothing) | {
            "paired": self.paired,
            "p_value": self.p_value,
            "warnings": [finding.to_json() for finding in self.findings],
            "refused": self.refused,
            "arms": list(self.names),
            "level": self.level,
            "in": {
                name: {"refused": each} if isinstance(each, str) else each.to_json("resource")
                for name, each in self.others.items()
            },
            "tuning": self.tuned.to_json() if self.tuned else {},
            "curve": [list(row) for row in self.flops.curve] if self.flops else [],
        }


def compare(arms: Mapping[str, Table], level: float = 0.95) -> Comparison:
    """Hold one arm against another; `arms` are two tables by name.

    Raises:
        Refused: arms that are not of one quantity, do not overlap, or are too few runs.
    """
    doubts, (first, second) = check(arms), arms.values()
    shift = _fitted(arms, "C")
    if shift is None:
        raise Refused("compute was not varied in both arms; expected two budgets or more")
    found = _multipliers(shift, arms, "C", level)
    flops = found.pop("C")
    try:
        if (by_time := _fitted(arms, "seconds")) is not None:
            found |= _multipliers(by_time, arms, "seconds", level)
    except Refused as error:
        found["seconds"] = str(error)
    assert isinstance(flops, Multiplier)
    return Comparison(
        names=(list(arms)[0], list(arms)[1]),
        flops=flops,
        others=found,
        paired=paired(first, second),
        p_value=flops.p_value,
        level=level,
        findings=[*doubts, *_findings(arms, shift, flops)],
    )


def against_first(
    arms: Mapping[str, Table], level: float = 0.95, tuned: Tuned | None = None
) -> list[Comparison]:
    """The first arm against each other; one that is refused says so, and costs the others nothing.

    What is known of how the arms were `tuned` is said with each.
    """
    first, *rest = arms
    found = []
    for other in rest:
        try:
            each = compare({first: arms[first], other: arms[other]}, level)
        except Refused as error:
            each = Comparison((first, other), level=level, refused=str(error))
        if tuned is not None:
            doubts = [*tuned.findings[first], *tuned.findings[other], *each.findings]
            each = replace(each, findings=doubts, tuned=tuned)
        found.append(each)
    return found


def corrected(comparisons: list[Comparison]) -> list[Comparison]:
    """The comparisons with p-values that hold for all of them together, by Holm's steps.

    A warning says so (Holm 1979).
    """
    known = [float(each.p_value) for each in comparisons if each.p_value is not None]
    if len(known) < 2:
        return comparisons
    p = iter(holm(known))
    text = "p-values are corrected for {comparisons} comparisons by Holm's steps; intervals are not"
    note = Finding.of(23, "many arms", text, comparisons=len(known))
    return [
        each
        if each.p_value is None
        else replace(each, p_value=next(p), findings=[*each.findings, note])
        for each in comparisons
    ]


def holm(p: list[float]) -> list[float]:
    """p-values by Holm's steps: the k-th smallest of n times n - k + 1, never falling."""
    order = np.argsort(p)
    steps = np.minimum(np.array(p)[order] * (len(p) - np.arange(len(p))), 1.0)
    result = np.empty(len(p))
    result[order] = np.maximum.accumulate(steps)
    return result.tolist()


def _fitted(arms: Mapping[str, Table], column: str) -> Shift | None:
    """The law of both arms in a resource; None where that was not varied.

    Raises:
        Refused: losses do not fall with it, or as `joined`.
    """
    runs = joined(arms, column)
    if runs is None:
        return None
    shift = fit(runs)
    if shift.explained < 0.3:
        raise Refused(f"losses do not fall with {column}: no ratio of it can be read from them")
    return shift


def _multipliers(
    shift: Shift, arms: Mapping[str, Table], column: str, level: float
) -> dict[str, Multiplier | str]:
    """The multiplier of the fitted resource, then of parameters and data at the same equal losses.

    Each arm is at the best size that was run. What was not varied is left out.

    Raises:
        Refused: the losses that both arms reach do not overlap.
    """
    law = shift.law
    near, far = law.needed(_overlap(law, arms), True)[0][::-1]
    x, _, losses, _ = law.curve(True)
    losses = np.interp(np.linspace(near, far, POINTS), x, losses)
    starts = _starts(arms, column)
    offsets = np.array([*starts.values()])[:, :, None]  # [resources, arms, 1]

    def both(law: Law) -> np.ndarray:
        """Logarithms [resources, arms, points] of what each arm takes to the losses."""
        x, n = np.swapaxes([law.needed(losses, second)[:2] for second in (False, True)], 0, 1)
        taken = {column: x, "parameters": n}
        return np.stack([taken.get(name, x - n) for name in starts]) + offsets

    def told(law: Law) -> np.ndarray:
        """Log multipliers [resources, points], and the exponent of each in B's first."""
        gaps, along = -np.diff(both(law), axis=1)[:, 0], np.ptp(both(law)[0, 1])
        return np.hstack([gaps, (gaps[:, -1:] - gaps[:, :1]) / along])

    estimates = np.stack(shift.estimate(told, level), axis=-1)  # [resources, points + 1, 4]
    taken, middle = both(law)[:, 1], POINTS // 2
    free = [law.needed(losses, second)[2][middle] for second in (False, True)]
    found: dict[str, Multiplier | str] = {}
    for name, own, each in zip(starts, np.exp(taken), estimates, strict=True):
        if name == "parameters" and not all(free):
            edge = " and ".join(arm for arm, inside in zip(arms, free, strict=True) if not inside)
            found[name] = f"the best size of {edge} is the smallest or largest that was run"
            continue
        values = np.exp(each[:POINTS, :3])
        found[name] = Multiplier(
            value=Interval(*map(float, values[middle])),
            at_loss=float(np.exp(losses[middle])),
            trend=None if name == "parameters" else Interval(*map(float, each[POINTS, :3])),
            losses=(float(np.exp(losses[-1])), float(np.exp(losses[0]))),
            resource=(float(own[0]), float(own[-1])),
            p_value=float(each[middle, 3]),
            curve=np.column_stack([own, np.exp(losses), values]).tolist(),
        )
    return found


def _starts(arms: Mapping[str, Table], column: str) -> dict[str, list[float]]:
    """By resource, what the law counts its logarithms from in each arm."""
    x, n, d = (logarithms(arms, name) for name in (column, "N", "D"))
    middle = float(np.concatenate(x).mean())
    starts = {column: [middle, middle]}
    if column != "C" or not (n and d):
        return starts
    if all(np.ptp(each) > 0.05 for each in n):
        starts["parameters"] = [float(each.mean()) for each in n]
    # D is C / N times what is usual in the arm.
    data = [middle + float((own - c).mean()) for own, c in zip(d, x, strict=True)]
    return starts | {next(iter(arms.values())).data_unit: data}


def _overlap(law: Law, arms: Mapping[str, Table]) -> np.ndarray:
    """The smallest and largest log loss that the best sizes of both arms reach.

    Raises:
        Refused: there is none.
    """
    ends = []
    for second in (False, True):
        own = law.runs.resource[law.runs.second == second]
        x, _, losses, _ = law.curve(second)
        ends.append(np.interp([own.max(), own.min()], x, losses))
    low, high = np.max(ends, axis=0)[0], np.min(ends, axis=0)[1]
    if low >= high:
        said = ", ".join(
            f"{name} from {most:.4g} down to {least:.4g}"
            for name, (least, most) in zip(arms, np.exp(ends), strict=True)
        )
        raise Refused(f"losses do not overlap at the best sizes: {said}; train the worse longer")
    return np.array([low, high])


def _findings(arms: Mapping[str, Table], shift: Shift, flops: Multiplier) -> list[Finding]:
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
    if shift.lack_of_fit < 0.001:  # seeds that arms share make small p too common
        text = (
            "the law misses cells by more than their seeds scatter (p = {p:.1g}): doubt the trend"
        )
        found.append(Finding.of(23, "lack of fit", text, p=shift.lack_of_fit))
    return sorted(found, key=lambda finding: finding.code)
