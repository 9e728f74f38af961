"""What to run next: the size and data a budget buys best, with intervals, hours and the trade-off.

Reads what `fit` wrote (laws.json) and nothing else: parameters, bootstrap draws, the range that was
fitted, the FLOPs as they were counted. Hoffmann 2022, approach 3, for any law of size and data.
"""

import itertools
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy import stats

from research.errors import UserError
from research.hardware import Slice
from research.scaling import laws
from research.scaling.doubt import intervals, reach, rounding
from research.scaling.plan.optimal import FlopsModel
from research.scaling.plan.surface import (
    Surface,
    best_size,
    cheapest_to_serve,
    data_for,
)

# Sizes of the trade-off curve, as multiples of the best one.
MULTIPLES = tuple(2.0 ** (k / 2) for k in range(-4, 5))

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Choice:
    """One run: its size, data, predicted loss and training FLOPs, each interval at `Plan.level`.

    `loss_interval` is that of the law at this size and data, `run_interval` of a new run's loss
    (the law's error and one run's noise), both made as `Plan.prediction_method` says.
    `serving_flops` are those of a forward pass over the inference tokens, 0 without them.
    """

    params: float
    data: float
    loss: float
    flops: float
    serving_flops: float = 0.0
    params_interval: Interval = None
    data_interval: Interval = None
    loss_interval: Interval = None
    run_interval: Interval = None


@dataclass(frozen=True)
class Hours:
    """What training costs on a slice: all chips' hours together, and those on the clock."""

    chip: str
    num_chips: int
    mfu: float
    chip_hours: float
    hours: float


@dataclass(frozen=True)
class TradeOff:
    """A size other than the best: its loss at the same FLOPs, and what the best loss would cost.

    `excess` is loss over the best loss less one; `compute` the multiple of the budget with which
    this size reaches the best loss, None where no amount of data does.
    """

    multiple: float
    params: float
    data: float
    loss: float
    excess: float
    compute: float | None


@dataclass(frozen=True)
class Plan:
    """The best run of a budget; `serving` is the best one when inference is paid for as well."""

    flops: float
    law: str
    level: float
    best: Choice
    serving: Choice | None
    hours: Hours | None
    curve: list[TradeOff]
    data_unit: str
    loss_unit: str
    prediction_method: str = "bootstrap"
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Every field, floats in full precision."""
        content = asdict(self)
        content["params"], content["tokens"] = self.best.params, self.best.data
        content["loss"] = self.best.loss
        content["chip_hours"] = self.hours and self.hours.chip_hours
        return content


def plan(
    content: dict[str, Any],
    flops: float,
    *,
    unique: float | None = None,
    inference: float | None = None,
    chips: Slice | None = None,
    mfu: float = 0.4,
    given: dict[str, float] | None = None,
    anyway: bool = False,
) -> Plan:
    """Plan `flops` of training by the law in `content`, the JSON object that `fit` wrote.

    `unique` is the amount of data there is: the law's U where it knows what repeats are worth
    (Muennighoff 2023), else a cap on D. `inference` tokens are served at 2N FLOPs each: then the
    cheapest model of the best loss is planned beside the best (Sardana 2023). `given` are the
    law's further variables.

    Raises:
        UserError: the law was refused, reads what was not given, has no best size at `flops`, or
            would be extrapolated over 10 times past a narrow range without `anyway`.
    """
    law, point = _law(content, given or {})
    warnings = _extrapolation(content, flops, anyway)
    model, draws = _fitted(content, law)
    if not len(draws):
        warnings.append("no draws in the file: no intervals")
    everything = np.concatenate([point[None], draws])
    surface = Surface(law, everything, model, unique, given or {})
    sizes = best_size(surface, flops)
    if not np.isfinite(sizes[0]):
        raise UserError(
            f"the law {law.name!r} has no best size at {flops:.3g} FLOPs:"
            " its loss falls to the end of every size looked at"
        )
    lost = float(np.mean(~np.isfinite(sizes)))
    if lost > 0.01:
        warnings.append(f"{lost:.0%} of the draws have no best size: intervals leave them out")
    surface = Surface(law, everything[np.isfinite(sizes)], model, unique, given or {})
    sizes = sizes[np.isfinite(sizes)]
    summary = _Summary(content, surface)
    params = np.exp(sizes)
    best = summary.choice(params, model.data(np.asarray(flops), params), inference or 0.0)
    warnings += _rounded(surface.one(point), best, flops)
    warnings += _data_said(surface, best, flops)
    serving = None
    if inference:
        smaller = np.exp(cheapest_to_serve(surface, sizes, flops, inference))
        goal = surface.loss(params[:, None], model.data(np.asarray(flops), params)[:, None]) * (
            1 + 1e-12
        )
        data = data_for(surface, smaller[:, None], goal)[:, 0]
        serving = summary.choice(smaller, data, inference)
    hours = None
    if chips is not None:
        spent = chips.chip_hours(serving.flops if serving else best.flops, mfu)
        hours = Hours(chips.chip, chips.num_chips, mfu, spent, spent / chips.num_chips)
    return Plan(
        flops=float(flops),
        law=law.name,
        level=summary.level,
        best=best,
        serving=serving,
        hours=hours,
        curve=_curve(surface.one(point), best, flops),
        data_unit=content.get("data_unit") or "tokens",
        loss_unit=content.get("loss_unit") or "",
        prediction_method=content.get("prediction_method") or "bootstrap",
        warnings=warnings,
    )


def _law(content: dict[str, Any], given: dict[str, float]) -> tuple[laws.Law, np.ndarray]:
    if not isinstance(content, dict) or "law" not in content or "parameters" not in content:
        raise UserError(
            "not a fitted law: expected the keys 'law' and 'parameters' that fit writes"
        )
    if content.get("refused") or content["parameters"] is None:
        raise UserError(f"the law was refused: {content.get('refused') or 'no reason in the file'}")
    law = laws.get(str(content["law"]))
    if not {"N", "D"} <= set(law.variables) or law.target != "loss":
        raise UserError(
            f"the law {law.name!r} is not of size and data: a plan takes one of L(N, D),"
            " such as chinchilla"
        )
    lacking = [name for name in law.variables if name not in ("N", "D", "U") and name not in given]
    if lacking:
        raise UserError(f"the law {law.name!r} reads {lacking[0]!r}: give --set {lacking[0]}=VALUE")
    unread = [name for name in given if name not in law.variables]
    if unread:
        known = ", ".join(law.variables)
        raise UserError(f"--set {unread[0]}: the law {law.name!r} reads only {known}")
    parameters = content["parameters"] if isinstance(content["parameters"], dict) else {}
    for name in law.names:
        value = parameters.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            said = f"is {value!r}; expected a number" if name in parameters else "is missing"
            raise UserError(f"the law {law.name!r}: parameter {name!r} {said}")
    return law, np.array([float(parameters[name]) for name in law.names])


def _fitted(content: dict[str, Any], law: laws.Law) -> tuple[FlopsModel, np.ndarray]:
    """FLOPs as they were counted, and the bootstrap draws [S, P], S = 0 where the file has none."""
    try:
        model = FlopsModel(**content["flops"]) if content.get("flops") else FlopsModel()
        draws = np.array(content.get("draws") or [], float).reshape(-1, len(law.parameters))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the law {law.name!r}: its 'flops' or 'draws' are damaged: {error}"
        ) from error
    return model, draws


def _extrapolation(content: dict[str, Any], flops: float, anyway: bool) -> list[str]:
    """Check 13: over 10 times past the largest run only from a wide range, or `anyway`."""
    ranges = content.get("range")
    if not isinstance(ranges, dict) or "C" not in ranges:
        return ["no fitted range in the file: how far this extrapolates is not known"]
    if not all(
        isinstance(ends, list) and len(ends) == 2 and ends[0] > 0 for ends in ranges.values()
    ):
        raise UserError(
            f"the key 'range' is {ranges!r}; expected [smallest, largest] of N, D and C"
        )
    refused = reach.refusal(ranges, {"C": flops}, ("N", "C"))
    if refused and not anyway:
        raise UserError(f"{refused}; --anyway plans it nevertheless")
    _, times = reach.times_beyond(ranges, {"C": flops})
    if times <= reach.REACH:
        return []
    return [f"[13 extrapolation] {flops:.3g} FLOPs are {times:.3g} times the largest run fitted"]


def _rounded(surface: Surface, best: Choice, flops: float) -> list[str]:
    """Check 17: what the best data per parameter could be, had the law been written out in full."""
    halves = rounding.half_steps(dict(zip(surface.law.names, surface.draws[0], strict=True)))
    if not halves:
        return []
    signs = np.array(list(itertools.product((-1, 1), repeat=len(halves))))
    corners = surface.draws + signs * np.array(list(halves.values()))
    corners = corners[(corners > 0).all(1) | (surface.draws <= 0).any()]
    params = np.exp(best_size(replace(surface, draws=corners), flops))
    ratios = surface.model.data(np.asarray(flops), params) / params
    low, high = np.nanmin(ratios), np.nanmax(ratios)
    if not high > 1.1 * low:
        return []
    text = f"parameters of {rounding.FEW_DIGITS} digits or fewer: rounding alone leaves"
    return [f"[17 rounded] {text} {low:.3g} to {high:.3g} tokens per parameter possible"]


def _data_said(surface: Surface, best: Choice, flops: float) -> list[str]:
    if surface.unique is None:
        return []
    if surface.repeats:
        epochs = best.data / surface.unique
        return [f"the data are seen {epochs:.3g} times"] if epochs > 1 else []
    if best.data < surface.unique * (1 - 1e-9):
        return []
    text = f"the law {surface.law.name!r} knows nothing of repeats: D is capped at --unique-tokens"
    wanted = best_size(Surface(surface.law, surface.draws[:1], surface.model), flops)
    free = surface.model.data(np.asarray(flops), np.exp(wanted))[0]
    return [f"{text} {surface.unique:.4g} (the best plan would take {free:.4g})"]


class _Summary:
    """Turns one value a draw (the first is the point) into a choice with its intervals."""

    def __init__(self, content: dict[str, Any], surface: Surface):
        self.surface = surface
        self.level = content.get("level") or 0.95
        if not isinstance(self.level, float) or not 0 < self.level < 1:
            raise UserError(f"the key 'level' is {self.level!r}; expected a share such as 0.95")
        num_groups = content.get("num_groups") or content.get("num_runs") or 0
        count = len(surface.law.parameters)
        self.degrees = intervals.degrees_of_freedom(num_groups, count)
        self.spare = max(num_groups - count, 1)
        self.noise = content.get("noise")
        self.inflation = float(content.get("inflation") or 1.0)

    def choice(self, params: np.ndarray, data: np.ndarray, inference: float = 0.0) -> Choice:
        """The choice of the first draw, params and data [S]; the others give its intervals."""
        surface = self.surface
        here = np.full((len(params), 1), params[0]), np.full((len(params), 1), data[0])
        losses = surface.loss(*here)[:, 0]
        loss = self.interval(losses)
        run = self.with_noise(float(losses[0]), loss)
        return Choice(
            params=float(params[0]),
            data=float(data[0]),
            loss=float(losses[0]),
            flops=float(surface.cost(params, data)[0]),
            serving_flops=float(surface.serving(params, inference)[0]),
            params_interval=self.interval(params),
            data_interval=self.interval(data),
            loss_interval=self.widened(float(losses[0]), loss),
            run_interval=self.widened(float(losses[0]), run),
        )

    def interval(self, values: np.ndarray) -> Interval:
        """Expanded percentiles of all but the first value; None without draws."""
        if len(values) < 3:
            return None
        low, high = np.exp(intervals.percentile(np.log(values[1:]), self.level, self.degrees))
        return float(low), float(high)

    def widened(self, loss: float, interval: Interval) -> Interval:
        """As far as the table's own backtests ask for (see LawFit.inflation)."""
        if interval is None:
            return None
        ends = intervals.widen(np.log(interval), np.log(loss), self.inflation)
        return float(np.exp(ends[0])), float(np.exp(ends[1]))

    def with_noise(self, loss: float, interval: Interval) -> Interval:
        """The law's interval and a run's own noise, added in quadrature on log loss."""
        if interval is None or self.noise is None:
            return None
        own = self.noise * stats.t.ppf(0.5 + self.level / 2, self.spare)
        low = np.hypot(min(np.log(interval[0] / loss), 0.0), own)
        high = np.hypot(max(np.log(interval[1] / loss), 0.0), own)
        return float(loss * np.exp(-low)), float(loss * np.exp(high))


def _curve(surface: Surface, best: Choice, flops: float) -> list[TradeOff]:
    params = best.params * np.array([MULTIPLES])
    data = surface.model.data(np.asarray(flops), params)
    losses = surface.loss(params, data)
    # At the optimum itself rounding may ask for a hair more data than the budget buys.
    goal = np.full_like(params, best.loss * (1 + 1e-12))
    needed = surface.cost(params, data_for(surface, params, goal)) / flops
    needed = np.where(params == best.params, 1.0, needed)
    within = data <= surface.most_data * (1 + 1e-9)
    rows = zip(MULTIPLES, params[0], data[0], losses[0], needed[0], within[0], strict=True)
    return [
        TradeOff(
            multiple=multiple,
            params=float(size),
            data=float(amount),
            loss=float(loss),
            excess=float(loss / best.loss - 1),
            compute=float(times) if np.isfinite(times) else None,
        )
        for multiple, size, amount, loss, times, allowed in rows
        if allowed
    ]
