"""What a law promises beyond its runs, and how it compares with published ones."""

from typing import TypeGuard

import numpy as np
import pandas as pd

from research.scaling import laws
from research.scaling.doubt import intervals
from research.scaling.fit import LawFit
from research.scaling.isoflop.fit import IsoflopFit
from research.scaling.laws.published import EXPONENTS, PUBLISHED
from research.scaling.plan.optimal import FlopsModel, optimum

BEYOND = 10.0  # a plan is drawn up to this many times the largest compute that was run
POINTS = 24  # of each piece
NO_INTERVAL = (np.nan, np.nan)
QUANTITIES = ("N", "D", "loss")
# Published exponents by the label they are drawn at: of the best size, then of the best loss.
SIZE_LABELS = {
    "kaplan2020": "Kaplan 2020",
    "henighan2020_8x8": "Henighan 2020, 8x8",
    "hoffmann2022_1": "Hoffmann 2022 (1)",
    "hoffmann2022_2": "Hoffmann 2022 (2)",
    "hoffmann2022_3": "Hoffmann 2022 (3)",
    "porian2024_kaplan": "Porian, as Kaplan",
    "porian2024_head": "Porian, head counted",
    "porian2024_warmup": "Porian, warm-up",
    "porian2024_cosine": "Porian, cosine",
    "porian2024_tuned": "Porian, tuned",
    "liang2024": "Liang 2024, DiT",
    "von_rutte2025": "von Rutte 2025",
}
LOSS_LABELS = {
    "henighan2020_8x8": "Henighan 2020, 8x8",
    "henighan2020_16x16": "Henighan 2020, 16x16",
    "henighan2020_32x32": "Henighan 2020, 32x32",
    "liang2024": "Liang 2024, no floor",
    "hoffmann2022": "Hoffmann 2022 (3)",
    "besiroglu2024": "Besiroglu 2024",
    "sardana2024": "Sardana 2024",
}


def point(fit: LawFit) -> np.ndarray:
    """The fitted parameters [P] of an accepted fit."""
    return np.array([(fit.parameters or {})[name] for name in fit.law.names])


def plan_curve(fit: LawFit | None, least: float, most: float) -> pd.DataFrame:
    """Columns C, extrapolated, and each of N, D, loss at the optimum with _low and _high.

    From the `least` FLOPs that were run to BEYOND times the `most`; no rows when there is no law.
    """
    if not _has_optimum(fit):
        return pd.DataFrame()
    # The largest budget ends the one piece and begins the other.
    inside, beyond = np.geomspace(least, most, POINTS), np.geomspace(most, BEYOND * most, POINTS)
    flops = np.concatenate([inside, beyond])
    best, draws = (
        np.stack([optimum(values, c, fit.flops_model)[..., :3] for c in flops], -2)
        for values in (point(fit), fit.draws)
    )
    low, high = intervals.percentile(draws, fit.level, fit.degrees)
    columns = {"C": flops, "extrapolated": np.repeat([False, True], POINTS)}
    for k, name in enumerate(QUANTITIES):
        columns |= {name: best[:, k], f"{name}_low": low[:, k], f"{name}_high": high[:, k]}
    return pd.DataFrame(columns)


def size_exponents(fit: LawFit | None, valleys: IsoflopFit) -> pd.DataFrame:
    """Columns label, source, value, low, high, ours: exponents of N_opt against C, ours first."""
    ours = []
    if valleys.params_exponent is not None and valleys.params_interval:
        ours.append(
            ("ours, isoFLOP", "isoFLOP minima", valleys.params_exponent, *valleys.params_interval)
        )
    if _has_optimum(fit):
        best = fit.optimal(1.0, anyway=True)
        ends = best.params_exponent_interval
        ours.append(("ours, L(N, D)", fit.law.formula, best.params_exponent, *ends))
    published = [
        (SIZE_LABELS[name], each.source, each.value, *(each.interval or NO_INTERVAL))
        for name, each in EXPONENTS.items()
    ]
    return _beside(ours, published)


def loss_exponents(frontier: LawFit | None, fit: LawFit | None) -> pd.DataFrame:
    """The same of the best loss above its floor, which falls as C^-exponent."""
    ours = []
    if frontier is not None and frontier.parameters and frontier.intervals:
        if frontier.law.variables == ("C",):
            alpha, ends = frontier.parameters["alpha"], frontier.intervals["alpha"]
            ours.append(("ours, best runs", frontier.law.formula, alpha, *ends))
    if _has_optimum(fit):
        value, spread = (_loss_exponent(v, fit.flops_model) for v in (point(fit), fit.draws))
        ends = intervals.percentile(spread, fit.level, fit.degrees)
        ours.append(("ours, L(N, D)", fit.law.formula, float(value), *map(float, ends)))
    published = []
    for name, label in LOSS_LABELS.items():
        law = PUBLISHED[name]
        value = law.parameters["alpha"]
        if law.law.name == laws.CHINCHILLA.name:
            vector = np.array([law.parameters[key] for key in law.law.names])
            value = float(_loss_exponent(vector, FlopsModel()))
        published.append((label, law.source, value, *NO_INTERVAL))
    return _beside(ours, published)


def _beside(ours: list[tuple], published: list[tuple]) -> pd.DataFrame:
    rows = [(*row, True) for row in ours] + [(*row, False) for row in published]
    return pd.DataFrame(
        rows if ours else [], columns=["label", "source", "value", "low", "high", "ours"]
    )


def _loss_exponent(parameters: np.ndarray, model: FlopsModel) -> np.ndarray:
    """alpha times the exponent of N_opt: along the optimum both terms fall alike."""
    return parameters[..., 3] * optimum(parameters, 1.0, model)[..., 3]


def _has_optimum(fit: LawFit | None) -> TypeGuard[LawFit]:
    return fit is not None and fit.law.name in laws.ADDITIVE and bool(fit.parameters)
