"""The step law: which learning rate and batch a model of N parameters wants on D tokens.

Question: do the best runs of each (N, D) follow lr = c N^p D^q and batch = c D^q with the printed
constants?
Paper: Li et al. 2025, "Predictable Scale: Part I, Step Law".
Data: data/dense_lr_bs_loss.csv of github.com/step-law/steplaw, about 120 learning rates and batches
for each of 17 (N, D); the repository states no licence.
Columns: N (without embeddings), D (tokens), lr, bs (sequences of 2048 tokens), "smooth loss".
Rows: as the authors' code (code/fit_tool.py there) has it, of each (N, D) the runs within 0.25% of
the lowest smooth loss; then least squares of logs, the rate in N and D, the batch in D.
Intervals: a bootstrap over the (N, D).
Cost: 5 seconds.
Expected: FAIL on the five constants and on how well they are known. The printed constants are the
medians of 1000 bootstrap fits that the authors publish (data/1004_fitted_..._parameters.csv), whose
exponents scatter half as much as those the same procedure gives on the public runs: these cannot be
the runs, or all the runs, that were fitted. Pass on what they are for: both laws name nearly the
same grid point, and the published one loses as little as the paper says.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from research.errors import UserError
from research.scaling.doubt import intervals
from research.scaling.engine.objective import Objective
from research.scaling.engine.solve import solve
from research.scaling.laws import Law
from research.scaling.laws.recipe import STEP_BATCH, STEP_LEARNING_RATE
from research.scaling.reproduce import Line, close, inside, table_file
from research.scaling.table import read_frame
from research.scaling.table.columns import positive_numbers

FILE = "dense_lr_bs_loss.csv"
DATA = f"data/{FILE} of github.com/step-law/steplaw as --data FILE"
LEARNED = """
The landscape is so flat that 4 to 13 runs of each (N, D) are within 0.25% of the best: which one is
lowest is noise, and N spans 0.7 decades only, so that the exponents are known to 0.1 at best and
the coefficient not to a factor of ten. The authors' own procedure gives other constants on the runs
they publish, and twice the scatter of the fits they publish: the table behind the printed constants
is another one. As a recipe the law holds: it costs about 0.1% of loss against the best of a sweep.
"""
SEQUENCE = 2048
LEVEL = 0.95
DRAWS = 1000
SQUARES = Objective(delta=np.inf)
RATE = {"c": 1.7825, "p": -0.7122, "q": 0.3070}
BATCH = {"c": 0.573, "q": 0.5713}
# Of the exponents over the 1000 fits that the authors publish, each to rows drawn with replacement.
SCATTER = {"learning rate p": 0.02986, "learning rate q": 0.01914, "batch q": 0.01867}
NEAR_BEST = 0.0025  # of the lowest loss of an (N, D), relative
# An exponent to 0.01; a coefficient to 5%.
EXPONENT_TOLERANCE, COEFFICIENT_TOLERANCE = 0.01, 0.05
STEP = 2**0.5  # between neighbours of the paper's grid, of learning rates as of batches
EXCESS = 0.094e-2  # of the law's loss over the best of a sweep, on the paper's own test runs


def reproduce(path: Path | None) -> list[Line]:
    """Constants of both laws and their scatter, how far both point apart, what theirs loses."""
    runs = read_runs(table_file(path, FILE))
    best = near_best(runs)
    rate = _fit(STEP_LEARNING_RATE, best, "rate")
    batch = _fit(STEP_BATCH, best, "batch")
    return [
        *_constants("learning rate", RATE, rate),
        *_constants("batch", BATCH, batch),
        *_scatter(best),
        _apart("learning rates apart, worst (N, D)", rate, RATE, best),
        _apart("batches apart, worst (N, D)", batch, BATCH, best),
        close("excess loss of the published recipe", EXCESS, excess(runs), EXCESS / 4),
    ]


@dataclass(frozen=True)
class Fit:
    """A recipe's constants and their intervals."""

    law: Law
    parameters: dict[str, float]
    ends: dict[str, tuple[float, float]]


def read_runs(file: Path) -> pd.DataFrame:
    """Columns N, D, rate, batch (tokens), loss, one run a row."""
    frame, source = read_frame(file), str(file)
    named = {"N": "N", "D": "D", "rate": "lr", "batch": "bs", "loss": "smooth loss"}
    runs = pd.DataFrame(
        {name: positive_numbers(frame, "--data", column, source) for name, column in named.items()}
    )
    if len(runs.groupby(["N", "D"])) < STEP_LEARNING_RATE.minimum_rows:
        raise UserError(f"{source}: fewer than {STEP_LEARNING_RATE.minimum_rows} (N, D)")
    return runs.assign(batch=runs["batch"] * SEQUENCE)


def near_best(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs within NEAR_BEST of the lowest loss of their (N, D)."""
    lowest = runs.groupby(["N", "D"])["loss"].transform("min")
    return runs[runs["loss"] < lowest * (1 + NEAR_BEST)]


def excess(runs: pd.DataFrame) -> float:
    """Mean over (N, D) of the relative excess loss of the run nearest to the published recipe."""
    lost = []
    for (size, tokens), cell in runs.groupby(["N", "D"]):  # type: ignore[misc]
        rate = STEP_LEARNING_RATE.loss(RATE, N=size, D=tokens)
        batch = STEP_BATCH.loss(BATCH, D=tokens)
        far = np.log(cell["rate"] / rate) ** 2 + np.log(cell["batch"] / batch) ** 2
        lost.append(cell["loss"][far.idxmin()] / cell["loss"].min() - 1)
    return float(np.mean(lost))


def _fit(law: Law, best: pd.DataFrame, column: str) -> Fit:
    variables = {name: best[name].to_numpy() for name in law.variables}
    groups = best.groupby(["N", "D"]).ngroup().to_numpy().astype(str)
    found = solve(
        law, variables, best[column].to_numpy(), groups, objective=SQUARES, bootstrap=DRAWS
    )
    values = found.design.to_parameters(found.best)
    draws = found.design.to_parameters(found.draws)
    degrees = intervals.degrees_of_freedom(len(np.unique(groups)), len(law.names))
    low, high = intervals.percentile(draws, LEVEL, degrees)
    return Fit(
        law,
        dict(zip(law.names, map(float, values), strict=True)),
        {name: (float(low[k]), float(high[k])) for k, name in enumerate(law.names)},
    )


def _constants(kind: str, published: dict[str, float], fit: Fit) -> list[Line]:
    lines = []
    for name, value in published.items():
        low, high = fit.ends[name]
        where = "inside" if low <= value <= high else "outside"
        note = f"published is {where} our {LEVEL:.0%} interval, {low:.3g} to {high:.3g}"
        tolerance = COEFFICIENT_TOLERANCE * value if name == "c" else EXPONENT_TOLERANCE
        lines.append(close(f"{kind} {name}", value, fit.parameters[name], tolerance, note))
    return lines


def _scatter(best: pd.DataFrame) -> list[Line]:
    """Standard deviations of the exponents over fits to rows drawn with replacement."""
    logs = np.log(best[["N", "D", "rate", "batch"]].to_numpy())
    design = np.column_stack([np.ones(len(logs)), logs[:, :2]])
    draws = []
    for rows in np.random.default_rng(0).integers(len(logs), size=(DRAWS, len(logs))):
        rate = np.linalg.lstsq(design[rows], logs[rows, 2], rcond=None)[0]
        batch = np.linalg.lstsq(design[rows][:, [0, 2]], logs[rows, 3], rcond=None)[0]
        draws.append((rate[1], rate[2], batch[1]))
    note = "theirs is smaller: not from these runs alone"
    return [
        close(
            f"{name}, scatter", published, ours, 0.2 * published, note if ours > published else ""
        )
        for (name, published), ours in zip(SCATTER.items(), np.std(draws, axis=0), strict=True)
    ]


def _apart(name: str, fit: Fit, published: dict[str, float], best: pd.DataFrame) -> Line:
    """The largest factor between both laws over the table's (N, D): within one step of its grid?"""
    variables = {variable: best[variable].to_numpy() for variable in fit.law.variables}
    ours, theirs = (fit.law.loss(each, **variables) for each in (fit.parameters, published))
    worst = float(np.exp(np.abs(np.log(ours / theirs)).max()))
    return inside(name, 1.0, worst, (1.0, STEP), "a factor; one step of the grid is allowed")
