"""What to run next: the size and data a budget buys best, with intervals, hours and the trade-off.

Reads what `fit` wrote (laws.json) and nothing else: parameters, bootstrap draws, the range that was
fitted, the FLOPs as they were counted. Hoffmann 2022, approach 3, for any law of size and data.
"""

import itertools
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from research.errors import UserError, nearest
from research.hardware import Slice
from research.scaling import laws
from research.scaling.doubt import reach, rounding
from research.scaling.plan.fitted import FittedLaw, Ladder, read_law
from research.scaling.plan.surface import (
    Surface,
    best_size,
    cheapest_to_serve,
    data_for,
    hair_above,
)

# Sizes of the trade-off curve, as multiples of the best one.
MULTIPLES = tuple(2.0 ** (k / 2) for k in range(-4, 5))

# What a plan chooses or takes by an option of its own, by the name that --set may call it.
INSTEAD = {
    "N": "a plan chooses the size; `predict --params N --flops C` says what a size of yours gives",
    "D": "a plan chooses the data; `predict --data D --flops C` says what data of yours give",
    "C": "the budget is --flops",
    "U": "the data there are without repeats are --unique-tokens",
}

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

    `excess` is loss over the best loss less one, or where losses may be below zero their
    difference; `compute` the multiple of the budget with which
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
    """The best run of a budget; `serving` is the best one when inference is paid for as well.

    `curve` is empty for a law of runs of one ratio, and not `relative` where losses may be below
    zero. `warnings` are the plan's, `fit_warnings` those the law came with.
    """

    flops: float
    law: str
    level: float
    best: Choice
    serving: Choice | None
    hours: Hours | None
    curve: list[TradeOff]
    data_unit: str
    loss_unit: str
    relative: bool = True
    prediction_method: str = "bootstrap"
    warnings: list[str] = field(default_factory=list)
    fit_warnings: list[str] = field(default_factory=list)

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
    own: laws.Law | None = None,
    anyway: bool = False,
) -> Plan:
    """Plan `flops` of training by the law in `content`, the JSON object that `fit` wrote.

    `unique` is the amount of data there is: the law's U where it knows what repeats are worth
    (Muennighoff 2023), else a cap on D. `inference` tokens are served at 2N FLOPs each: then the
    cheapest model of the best loss is planned beside the best (Sardana 2023). `given` are the
    law's further variables, `own` is the law itself where it is not one of ours.

    Raises:
        UserError: the law was refused, reads what was not given, has no best size at `flops`, or
            would be carried over 10 times past a narrow range, or past reason, without `anyway`.
    """
    fitted = read_law(content, own)
    _refuse_given(fitted.law, given or {})
    _refuse_far(fitted, {"C": flops}, anyway)
    if fitted.ladder is not None and len(fitted.law.variables) == 1:
        choices, curve = _on_ladder(fitted, fitted.ladder, flops, inference, unique), []
        warnings = [f"{fitted.ladder.said} in every run that was fitted: so it is in this plan"]
    else:
        choices, curve, warnings = _searched(fitted, flops, unique, inference, given or {})
    best, serving = choices
    reached = [{"C": flops}, *({"N": c.params, "D": c.data} for c in choices if c)]
    for wanted in reached[1:]:
        _refuse_far(fitted, wanted, anyway)
    ends = {name: np.array([w[name] for w in reached if name in w]) for name in "CND"}
    far = fitted.doubts(reach.beyond(fitted.ranges, ends))
    hours = None
    if chips is not None:
        spent = chips.chip_hours(serving.flops if serving else best.flops, mfu)
        hours = Hours(chips.chip, chips.num_chips, mfu, spent, spent / chips.num_chips)
    return Plan(
        flops=float(flops),
        law=fitted.law.name,
        level=fitted.level,
        best=best,
        serving=serving,
        hours=hours,
        curve=curve,
        data_unit=fitted.data_unit,
        loss_unit=fitted.loss_unit,
        relative=fitted.log,
        prediction_method=fitted.method,
        warnings=far + warnings,
        fit_warnings=fitted.warnings,
    )


def _refuse_given(law: laws.Law, given: dict[str, float]) -> None:
    """What is given besides the budget must be read by the law, and not be what a plan chooses."""
    if law.target != "loss":
        raise UserError(
            f"the law {law.name!r} is of the {law.target}: a plan takes one of the loss"
        )
    for name in given:
        if name in INSTEAD:
            raise UserError(f"--set {name}: {INSTEAD[name]}")
        if name not in law.variables:
            known = ", ".join(law.variables)
            near = nearest(name, law.variables)
            raise UserError(f"--set {name}: the law {law.name!r} reads only {known}{near}")
    for name in law.variables:
        if name not in ("N", "D", "C", "U") and name not in given:
            raise UserError(f"the law {law.name!r} reads {name!r}: give --set {name}=VALUE")


def _refuse_far(fitted: FittedLaw, wanted: dict[str, float], anyway: bool) -> None:
    refused = fitted.too_far(wanted)
    if refused and not anyway:
        raise UserError(f"{refused}; --anyway plans it nevertheless")


def _on_ladder(
    fitted: FittedLaw,
    ladder: Ladder,
    flops: float,
    inference: float | None,
    unique: float | None,
) -> tuple[Choice, None]:
    """The run on the line of the fitted ones, under a law of N, D or C alone."""
    if inference or unique:
        option = "--inference-tokens" if inference else "--unique-tokens"
        raise UserError(
            f"{option}: {ladder.said} in every run fitted, and the law {fitted.law.name!r} cannot"
            " trade one for the other: runs off that line would let a law of N and D do so"
        )
    params = float(ladder.params_for(np.asarray(flops), fitted.model))
    data = float(ladder.data(np.asarray(params)))
    values = {"N": params, "D": data, "C": flops}
    columns = {name: np.full(1, values[name]) for name in fitted.law.variables}
    loss = fitted.law.loss(fitted.point, **columns)
    with np.errstate(all="ignore"):
        drawn = fitted.law.loss(fitted.draws, **columns)
    choice = Choice(
        params=params,
        data=data,
        loss=float(loss[0]),
        flops=float(flops),
        loss_interval=_pair(fitted.loss_interval(loss, drawn)),
        run_interval=_pair(fitted.run_interval(loss, drawn)),
    )
    return choice, None


def _searched(
    fitted: FittedLaw,
    flops: float,
    unique: float | None,
    inference: float | None,
    given: dict[str, float],
) -> tuple[tuple[Choice, Choice | None], list[TradeOff], list[str]]:
    """(best, serving), the trade-off curve and warnings of a law of N and D."""
    law, model, point = fitted.law, fitted.model, fitted.point
    if not {"N", "D"} <= set(law.variables):
        raise UserError(
            f"the law {law.name!r} is not of size and data: a plan takes one of L(N, D),"
            " such as chinchilla; `predict` takes any law"
        )
    everything = np.concatenate([point[None], fitted.draws])
    surface = Surface(law, everything, model, unique, given)
    sizes = best_size(surface, flops)
    if not np.isfinite(sizes[0]):
        raise UserError(
            f"the law {law.name!r} has no best size at {flops:.3g} FLOPs:"
            " its loss falls to the end of every size looked at"
        )
    warnings = []
    lost = float(np.mean(~np.isfinite(sizes)))
    if lost > 0.01:
        warnings.append(f"{lost:.0%} of the draws have no best size: intervals leave them out")
    surface = Surface(law, everything[np.isfinite(sizes)], model, unique, given)
    sizes = sizes[np.isfinite(sizes)]
    params = np.exp(sizes)
    data = model.data(np.asarray(flops), params)
    best = _choice(fitted, surface, params, data, inference or 0.0)
    warnings += _rounded(surface.one(point), flops)
    warnings += _data_said(surface, best, flops)
    serving = None
    if inference:
        smaller = np.exp(cheapest_to_serve(surface, sizes, flops, inference))
        goal = hair_above(surface.loss(params[:, None], data[:, None]))
        needed = data_for(surface, smaller[:, None], goal)[:, 0]
        serving = _choice(fitted, surface, smaller, needed, inference)
    curve = _curve(surface.one(point), best, flops, fitted.log)
    return (best, serving), curve, warnings


def _rounded(surface: Surface, flops: float) -> list[str]:
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


def _choice(
    fitted: FittedLaw, surface: Surface, params: np.ndarray, data: np.ndarray, inference: float
) -> Choice:
    """The choice of the first draw, params and data [S]; the others give its intervals."""
    here = np.full((len(params), 1), params[0]), np.full((len(params), 1), data[0])
    losses = surface.loss(*here)
    loss, drawn = losses[0], losses[1:]
    return Choice(
        params=float(params[0]),
        data=float(data[0]),
        loss=float(loss[0]),
        flops=float(surface.cost(params, data)[0]),
        serving_flops=float(surface.serving(params, inference)[0]),
        params_interval=_pair(fitted.interval(params[1:, None])),
        data_interval=_pair(fitted.interval(data[1:, None])),
        loss_interval=_pair(fitted.loss_interval(loss, drawn)),
        run_interval=_pair(fitted.run_interval(loss, drawn)),
    )


def _pair(ends: np.ndarray | None) -> Interval:
    return None if ends is None else (float(ends[0, 0]), float(ends[1, 0]))


def _curve(surface: Surface, best: Choice, flops: float, relative: bool) -> list[TradeOff]:
    params = best.params * np.array([MULTIPLES])
    data = surface.model.data(np.asarray(flops), params)
    losses = surface.loss(params, data)
    # At the optimum itself rounding may ask for a hair more data than the budget buys.
    goal = hair_above(np.full_like(params, best.loss))
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
            excess=float(loss / best.loss - 1 if relative else loss - best.loss),
            compute=float(times) if np.isfinite(times) else None,
        )
        for multiple, size, amount, loss, times, allowed in rows
        if allowed
    ]
