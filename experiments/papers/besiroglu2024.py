"""Chinchilla's parametric fit, refitted to the runs read off its own figure.

Question: what are the constants of L = E + A/N^alpha + B/D^beta on the runs of Hoffmann 2022, and
do they agree with the sizes that paper recommends?
Paper: Besiroglu, Erdil, Barnett, You 2024, "Chinchilla Scaling: A replication attempt".
Data: data/svg_extracted_data.csv of github.com/epoch-research/analyzing-chinchilla, 245 runs read
off figure 4 of Hoffmann 2022; the repository states no licence.
Columns: "Model Size" (N, all parameters), "Training FLOP" (C; D = C / 6N), "loss" (nats a token).
Rows: those with a loss below the fifth largest, 240.
Cost: 7 seconds.
Expected: every line passes. Huber(1e-3) on log loss, summed, and the authors' headline, a Huber
likelihood whose scale collapses to least absolute deviations; standard errors and 95% intervals by
4000 resamples of the runs.
"""

from pathlib import Path

import numpy as np

from research.scaling import engine
from research.scaling.engine.objective import LAD as ABSOLUTE
from research.scaling.engine.solve import solve
from research.scaling.fit import fit_law
from research.scaling.laws import CHINCHILLA
from research.scaling.laws.published import PUBLISHED
from research.scaling.plan.optimal import FlopsModel, optimum
from research.scaling.reproduce import Line, close, table_file
from research.scaling.table import Table, read_file

FILE = "svg_extracted_data.csv"
DATA = f"data/{FILE} of github.com/epoch-research/analyzing-chinchilla as --data FILE"
LEARNED = """
The exponents are nearly equal, so size and data should grow alike (N_opt ~ C^0.51), near 20 tokens
per parameter. Five rows with odd losses move that exponent to 0.565: an outlier rule must be
explicit. A from 285 to 744 and B from 1042 to 5810 fit alike: they move with the exponents, and
mean little by themselves.
"""
FLOPS = 5.88e23
DROPPED = 5
DRAWS = 4000
HUBER_FIT = {"E": 1.81722, "A": 477.826, "B": 2143.417, "alpha": 0.34731, "beta": 0.36717}
HUBER_OBJECTIVE = 0.0010182740178
LAD = PUBLISHED["besiroglu2024"]
LAD_ERRORS = {"E": 0.02566, "A": 124.52, "B": 1293.28, "alpha": 0.01540, "beta": 0.02060}
# Draws of B have a long tail: over six seeds their standard deviation was from 1307 to 1547.
TAIL = (0.25, "a long tail: it changes by a tenth from seed to seed")


def reproduce(path: Path | None) -> list[Line]:
    """Both fits, the standard errors, and what the outliers do."""
    table = read_file(
        table_file(path, FILE), params="Model Size", data=None, flops="Training FLOP", loss="loss"
    )
    kept = table.select(table["L"] < np.sort(table["L"])[-DROPPED])
    huber, everything = _huber(kept), _huber(table)
    lad, draws = _lad(kept)
    best = optimum(_vector(lad), FLOPS, FlopsModel())
    return [
        close("runs kept", 240, len(kept), 0),
        *_constants("Huber", HUBER_FIT, huber),
        close("Huber objective", HUBER_OBJECTIVE, huber["objective"], 1e-8 * HUBER_OBJECTIVE),
        *_constants("LAD", LAD.parameters, lad),
        *_errors(draws),
        close("N_opt exponent, 240 runs", 0.514, _exponent(huber), 5e-4),
        close("N_opt exponent, 245 runs", 0.565, _exponent(everything), 5e-4),
        close("tokens per parameter at 5.88e23 FLOPs", 18.3, best[1] / best[0], 0.05),
    ]


def _huber(table: Table) -> dict[str, float]:
    """Constants and objective."""
    fit = fit_law(table, bootstrap=100)
    point = fit.parameters or fit.rejected
    assert point is not None
    return {**point, "objective": fit.objective}


def _lad(table: Table) -> tuple[dict[str, float], np.ndarray]:
    """Constants, and their draws [DRAWS, 5] by resampling runs with replacement, as the authors."""
    variables, loss = {name: table[name] for name in "ND"}, table["L"]
    found = solve(CHINCHILLA, variables, loss, table["group"], objective=ABSOLUTE, bootstrap=0)
    design, target = found.design, ABSOLUTE.target(loss)
    even = np.full(len(table), 1 / len(table))
    weights = np.random.default_rng(0).multinomial(len(table), even, size=DRAWS).astype(float)
    pool = np.concatenate([found.best[None], found.ends.theta[np.argsort(found.ends.objective)]])
    drawn = engine.minimise_draws(
        design, pool, target, weights, design.bounds(loss), ABSOLUTE
    ).theta
    values = design.to_parameters(found.best)
    point = dict(zip(CHINCHILLA.names, map(float, values), strict=True))
    return point, design.to_parameters(drawn)


def _errors(draws: np.ndarray) -> list[Line]:
    """Standard error and ends of the 95% interval of each constant."""
    lines = []
    for k, name in enumerate(CHINCHILLA.names):
        error, ends = LAD_ERRORS[name], np.quantile(draws[:, k], (0.025, 0.975))
        share, note = TAIL if name == "B" else (0.1, "")
        ours = float(draws[:, k].std())
        lines.append(close(f"LAD standard error of {name}", error, ours, share * error, note))
        for side, published, end in zip(("low", "high"), LAD.intervals[name], ends, strict=True):
            lines.append(close(f"LAD 95% {side} of {name}", published, end, 0.2 * error))
    return lines


def _constants(kind: str, published, ours) -> list[Line]:
    """To 1e-5 relative, or half a unit of the last digit printed where that is coarser."""
    digits = {"E": 5e-6, "A": 5e-4, "B": 5e-4, "alpha": 5e-6, "beta": 5e-6}
    return [
        close(f"{kind} {name}", value, ours[name], max(1e-5 * value, digits[name]))
        for name, value in published.items()
    ]


def _vector(constants) -> np.ndarray:
    return np.array([constants[name] for name in ("E", "A", "B", "alpha", "beta")])


def _exponent(constants) -> float:
    return constants["beta"] / (constants["alpha"] + constants["beta"])
