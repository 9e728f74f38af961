"""The sentences of the report: a law in words, with its interval, for a reader in a hurry."""

import math

import numpy as np

from research.numbers import count, interval, percent, power_of_ten
from research.report.findings import GROWS, Drop, Quantity
from research.scaling.fit import Rung


def drop_sentence(drop: Drop, unit: str, relative: bool) -> str:
    """Say what ten times the compute does to the loss, as a share of it if zero means zero."""
    ends = ""
    if math.isfinite(drop.low) and math.isfinite(drop.high):
        ends = f" [{percent(drop.low)}, {percent(drop.high)}]"
    share = f" by {percent(drop.share)}{ends}," if relative else ""
    what = GROWS[drop.axis]
    flops = " FLOPs" if drop.axis == "C" else ""
    return (
        f"Ten times the {what}, from {power_of_ten(drop.start)} to "
        f"{power_of_ten(10 * drop.start)}{flops}, lowers validation loss{share} "
        f"from {drop.before:.4g} to {drop.after:.4g} {unit}."
    )


def rung_sentence(rung: Rung, unit: str, data_unit: str) -> str:
    """Say what the next rung of a ladder is, and the loss that the law promises there."""
    shown = {
        "N": lambda value: f"{count(value)} parameters",
        "D": lambda value: f"{count(value)} {data_unit}",
        "C": lambda value: f"{power_of_ten(value)} FLOPs",
    }
    place = ", ".join(shown[name](value) for name, value in rung.at.items())
    ends = interval(rung.low, rung.high, ".4g")
    return f"The next rung of the ladder, {place}, should reach {rung.loss:.4g} {ends} {unit}."


def growth_sentence(what: str, exponent: Quantity) -> str:
    """Say how the compute-optimal amount of `what` grows."""
    ends = interval(exponent.low, exponent.high)
    source = f"(by {exponent.law})" if exponent.law else ""
    return " ".join(f"Optimal {what} grow as C^{exponent.value:.3g} {ends} {source}".split()) + "."


def error_words(predicted, measured, unit: str, relative: bool) -> str:
    """Return the mean error of predictions, as a share of the loss if zero means zero."""
    if relative:
        return percent(float(np.mean(np.abs(predicted / measured - 1))))
    return f"{float(np.mean(np.abs(predicted - measured))):.2g} {unit}"


def prediction_sentence(
    predicted: Quantity, measured: float, unit: str, budget: float, relative: bool
) -> str:
    """Say what the law foretold for `budget` FLOPs it never saw, and what was measured."""
    error = error_words(predicted.value, measured, unit, relative)
    verdict = ""
    ends = interval(predicted.low, predicted.high, ".4g")
    if ends:
        inside = predicted.low <= measured <= predicted.high
        verdict = f"; the measurement lies {'inside' if inside else 'outside'} the interval"
    return (
        f"At the held-out budget of {power_of_ten(budget)} FLOPs the law predicted "
        f"{predicted.value:.4g} {ends} {unit} and {measured:.4g} was measured "
        f"(error {error}{verdict})."
    )
