"""The critical batch size: where more examples a step stop saving steps to one loss.

The steps that a run with batch B takes to a loss follow S_min (1 + B_crit / B), so that examples
and steps trade off as (S / S_min - 1) (E / E_min - 1) = 1 (McCandlish et al. 2018, eq. 2.7 and
2.11): at B_crit it takes twice the fewest of both. Each batch counts at the best of its rates, with
runs at a constant rate and scored by an average of their weights, which need no horizon (Zhang et
al. 2024).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from research.errors import UserError
from research.scaling.transfer import Estimate

FEWEST = 3  # batches of a fit


@dataclass(frozen=True)
class CriticalBatch:
    """The trade-off of steps and batch at the loss `target`.

    `steps` has columns batch, rate, seed, steps: the best rate of each batch. `noise_scale` is that
    of the gradient, in examples, in runs of the best rates up to the target; None where no rows say
    it.
    """

    target: float
    steps: pd.DataFrame
    fewest_steps: Estimate
    batch: Estimate
    noise_scale: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "critical_batch": self.batch.to_json(),
            "fewest_steps": self.fewest_steps.to_json(),
            "noise_scale": self.noise_scale,
            "steps": self.steps.to_dict("records"),
        }


def critical_batch(
    rows: pd.DataFrame, target: float | None = None, level: float = 0.95
) -> CriticalBatch:
    """Fit the trade-off to the learning curves of runs of one network.

    Args:
        rows: columns batch, rate, seed, step, loss, and perhaps gradient_square and gradient_noise
            (`research.optim.noise_scale`).
        target: a loss; by default the lowest that every batch reaches at its best rate.

    Raises:
        UserError: fewer than 3 batches, or one that does not reach `target`.
    """
    reached = rows.groupby("batch").loss.min()
    if len(reached) < FEWEST:
        raise UserError(f"{len(reached)} batch sizes; a critical one takes {FEWEST}")
    if target is None:  # which the last row of one batch may just reach, at one seed
        each_seed = (
            rows.groupby(["batch", "rate", "seed"]).loss.min().groupby(["batch", "rate"]).max()
        )
        target = float(each_seed.groupby("batch").min().max())
    if (short := reached[reached > target]).size:
        raise UserError(
            f"batch {short.index[0]:g} reaches a loss of {short.iloc[0]:.4g}, not {target:.4g}"
        )
    curves = rows.sort_values("step").groupby(["batch", "rate", "seed"])
    steps = curves[["step", "loss"]].apply(lambda curve: steps_to(curve, target))
    mean = steps.groupby(["batch", "rate"]).agg(lambda each: each.mean(skipna=False))
    best = pd.MultiIndex.from_tuples(list(mean.dropna().groupby("batch").idxmin()))
    chosen = steps.rename("steps").reset_index()
    chosen = chosen[pd.MultiIndex.from_frame(chosen[["batch", "rate"]]).isin(best)]
    fewest, batch = _trade_off(chosen.batch.to_numpy(float), chosen.steps.to_numpy(), level)
    noise = None
    if "gradient_noise" in rows:
        own = rows.merge(chosen, on=["batch", "rate", "seed"])
        sums = own[own.step <= own.steps][["gradient_noise", "gradient_square"]].sum()
        noise = float(sums.gradient_noise / sums.gradient_square)
    return CriticalBatch(target, chosen.reset_index(drop=True), fewest, batch, noise)


def steps_to(curve: pd.DataFrame, target: float) -> float:
    """The step at which `curve`, sorted by step, first has `target`, in straight lines of log step.

    NaN where it never has.
    """
    step, loss = curve.step.to_numpy(float), curve.loss.to_numpy()
    below = np.flatnonzero(loss <= target)
    if not len(below):
        return np.nan
    ends = slice(max(below[0] - 1, 0), below[0] + 1)
    # np.interp wants rising x, and the loss falls.
    return float(np.exp(np.interp(-target, -loss[ends], np.log(step[ends]))))


def _trade_off(batch: np.ndarray, steps: np.ndarray, level: float) -> tuple[Estimate, Estimate]:
    """S_min and B_crit by least squares of log steps, with Student's t intervals of their logs."""

    def residuals(theta: np.ndarray) -> np.ndarray:
        return theta[0] + np.log1p(np.exp(theta[1]) / batch) - np.log(steps)

    start = np.log([steps.min(), np.exp(np.log(batch).mean())])
    bounds = ([-np.inf, np.log(batch.min() / 1e3)], [np.inf, np.log(batch.max() * 1e3)])
    fit = scipy.optimize.least_squares(residuals, start, bounds=bounds)
    degrees = len(steps) - 2
    covariance = np.linalg.inv(fit.jac.T @ fit.jac) * 2 * fit.cost / degrees
    reach = scipy.special.stdtrit(degrees, 0.5 + level / 2) * np.sqrt(np.diag(covariance))
    ends = np.exp([fit.x, fit.x - reach, fit.x + reach])
    fewest, critical = (Estimate(*map(float, each)) for each in ends.T)
    return fewest, critical
