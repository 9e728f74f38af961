"""What to run next: the size and data a budget buys best, with intervals, hours and the trade-off.

Reads what `fit` wrote (laws.json) and nothing else: parameters, bootstrap draws, the range that was
fitted, the FLOPs as they were counted. Hoffmann 2022, approach 3, for any law of size and data.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from research.errors import UserError, nearest
from research.hardware import Slice
from research.scaling import laws
from research.scaling.doubt import reach
from research.scaling.plan.fitted import Ends, FittedLaw, read_law
from research.scaling.plan.prediction import Prediction, predict
from research.scaling.plan.surface import (
    Surface,
    best_size,
    cheapest_to_serve,
    data_for,
    hair_above,
)

# Sizes of the trade-off curve, as multiples of the best one.
MULTIPLES = tuple(2.0 ** (k / 2) for k in range(-4, 5))

FEW_DIGITS = 4  # significant ones: a parameter written with fewer was rounded by a person

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
        found = predict(content, {"C": flops}, own=own, anyway=True)
        best, serving, curve = _on_ladder(fitted, found, inference, unique), None, []
        warnings = found.warnings
    else:
        best, serving, curve, warnings = _searched(fitted, flops, unique, inference, given or {})
        chosen = [each for each in (best, serving) if each]
        ends = {"C": [flops], "N": [c.params for c in chosen], "D": [c.data for c in chosen]}
        warnings = fitted.doubts(reach.beyond(fitted.ranges, ends)) + warnings
    for choice in (best, serving):
        if choice:
            _refuse_far(fitted, {"N": choice.params, "D": choice.data}, anyway)
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
        relative=fitted.spread.log,
        prediction_method=fitted.method,
        warnings=warnings,
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
    found: Prediction,
    inference: float | None,
    unique: float | None,
) -> Choice:
    """The run on the line of the fitted ones, as `found` under a law of N, D or C alone."""
    if (inference or unique) and fitted.ladder:
        option = "--inference-tokens" if inference else "--unique-tokens"
        raise UserError(
            f"{option}: {fitted.ladder.said} in every run fitted, and the law {found.law!r} cannot"
            " trade one for the other: runs off that line would let a law of N and D do so"
        )
    params, data, flops = (float(found.columns[name][0]) for name in "NDC")
    ends = _pair(found.loss_interval), _pair(found.run_interval)
    return Choice(
        params, data, float(found.loss[0]), flops, loss_interval=ends[0], run_interval=ends[1]
    )


def _searched(
    fitted: FittedLaw,
    flops: float,
    unique: float | None,
    inference: float | None,
    given: dict[str, float],
) -> tuple[Choice, Choice | None, list[TradeOff], list[str]]:
    """The best run, that to serve, the trade-off curve and warnings of a law of N and D."""
    law, model = fitted.law, fitted.model
    if not {"N", "D"} <= set(law.variables):
        raise UserError(
            f"the law {law.name!r} is not of size and data: a plan takes one of L(N, D),"
            " such as chinchilla; `predict` takes any law"
        )
    draws = np.concatenate([fitted.point[None], fitted.draws])
    surface = Surface(law, draws, model, unique, given)
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
    surface = replace(surface, draws=draws[np.isfinite(sizes)])
    sizes = sizes[np.isfinite(sizes)]
    params = np.exp(sizes)
    data = model.data(flops, params)
    best = _choice(fitted, surface, params, data, inference or 0.0)
    warnings += _rounded(surface.one(), flops)
    warnings += _data_said(surface, best, flops)
    serving = None
    if inference:
        smaller = cheapest_to_serve(surface, sizes, flops, inference)
        serving = _choice(fitted, surface, *smaller, inference)
    curve = _curve(surface.one(), best, flops, fitted.spread.log)
    return best, serving, curve, warnings


def _rounded(surface: Surface, flops: float) -> list[str]:
    """Check 17: what the best data per parameter could be, had the law been written out in full.

    Hoffmann 2022 printed alpha .34 and beta .28 for .33917 and .28491: that alone moves the best
    tokens per parameter at 5.88e23 FLOPs from 59 to 93 (Besiroglu 2024).
    """
    halves = _half_steps(dict(zip(surface.law.names, surface.draws[0], strict=True)))
    if not halves:
        return []
    signs = np.array(list(itertools.product((-1, 1), repeat=len(halves))))
    corners = surface.draws + signs * np.array(list(halves.values()))
    corners = corners[(corners > 0).all(1) | (surface.draws <= 0).any()]
    params = np.exp(best_size(replace(surface, draws=corners), flops))
    ratios = surface.model.data(flops, params) / params
    low, high = np.nanmin(ratios), np.nanmax(ratios)
    if not high > 1.1 * low:
        return []
    text = f"parameters of {FEW_DIGITS} digits or fewer: rounding alone leaves"
    return [f"[17 rounded] {text} {low:.3g} to {high:.3g} tokens per parameter possible"]


def _half_steps(parameters: Mapping[str, float]) -> dict[str, float]:
    """Half a unit in the last digit of each parameter; {} unless all have few digits."""
    exact = {name: Decimal(repr(float(value))).normalize() for name, value in parameters.items()}
    if any(len(value.as_tuple().digits) > FEW_DIGITS for value in exact.values()):
        return {}
    return {name: 0.5 * 10.0 ** int(value.as_tuple().exponent) for name, value in exact.items()}


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
    free = surface.model.data(flops, np.exp(wanted))[0]
    return [f"{text} {surface.unique:.4g} (the best plan would take {free:.4g})"]


def _choice(
    fitted: FittedLaw, surface: Surface, params: np.ndarray, data: np.ndarray, inference: float
) -> Choice:
    """The choice of the first draw, params and data [S]; the others give its intervals."""
    losses = surface.loss(params[:1], data[:1])
    law, run = fitted.loss_intervals(losses[0], losses[1:])
    return Choice(
        params=float(params[0]),
        data=float(data[0]),
        loss=float(losses[0, 0]),
        flops=float(surface.model.flops(params, data)[0]),
        serving_flops=float(surface.serving(params, inference)[0]),
        params_interval=_pair(fitted.interval(params[1:, None])),
        data_interval=_pair(fitted.interval(data[1:, None])),
        loss_interval=_pair(law),
        run_interval=_pair(run),
    )


def _pair(ends: Ends) -> Interval:
    return None if ends is None else (float(ends[0, 0]), float(ends[1, 0]))


def _curve(surface: Surface, best: Choice, flops: float, relative: bool) -> list[TradeOff]:
    params = best.params * np.array([MULTIPLES])
    data = surface.model.data(flops, params)
    losses = surface.loss(params, data)
    # At the optimum itself rounding may ask for a hair more data than the budget buys.
    goal = hair_above(np.full_like(params, best.loss))
    needed = surface.model.flops(params, data_for(surface, params, goal)) / flops
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
