"""`make coverage`: how often intervals hold the truth, on planted surfaces. Nothing here is a test.

make coverage                         # 60 surfaces a design: about ten minutes
make coverage ARGS='--surfaces 500'   # over an hour
make coverage ARGS='--law frontier --hidden'

A design is how many runs, over how many decades, with how much noise of log loss. Random ones draw
N and D log-uniformly, each over those decades; grids are isoFLOP groups whose budgets span them,
with sizes 1.4 decades wide. Every surface has a truth of its own. Ahead lie two runs of ten times
the largest compute: the compute-optimal one, and the largest run with N and D scaled alike.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.scaling.fit import fit_law
from research.scaling.laws import CHINCHILLA, FRONTIER, Law
from research.scaling.plan.optimal import FlopsModel, optimum
from research.scaling.table import Table
from tests.scaling.planted import table

LAWS = {"chinchilla": CHINCHILLA, "frontier": FRONTIER}
BUDGETS = {12: 3, 24: 4, 60: 6}  # isoFLOP groups of so many runs
SMALLEST_PARAMS, SMALLEST_DATA = 1e7, 1e9


@dataclass(frozen=True)
class Study:
    """One design of runs; `hidden` plants a truth that it cannot show.

    Hidden are the "size" (N spans a tenth of a decade), the "floor" (E is a thousandth of the
    smallest loss) or everything ("flat": the loss falls by a third of the noise).
    """

    law: Law
    layout: str
    runs: int
    decades: float
    noise: float
    hidden: str = ""


# Every number of runs, decades and noise with every other, once.
DESIGNS = [
    (runs, decades, noise)
    for i, runs in enumerate((12, 24, 60))
    for j, decades in enumerate((1.5, 2.5, 4.0))
    for k, noise in enumerate((0.003, 0.01, 0.03))
    if (i + j + k) % 3 == 0
]


@dataclass(frozen=True)
class Surface:
    """A planted table, its parameters [P], and the runs ahead: variables and noisy log loss [2]."""

    table: Table
    truth: np.ndarray
    ahead: dict[str, Any]
    unseen: np.ndarray


def surface(study: Study, seed: int) -> Surface:
    """Surface number `seed` of a study: the runs, what is true of them, and what lies ahead."""
    generator = np.random.default_rng([seed, study.runs, int(10 * study.decades)])
    params, data = _runs(study, generator)
    flops = 6 * params * data
    # At the smallest run each term is about as large as in Hoffmann 2022.
    sizes, exponents = generator.uniform(0.6, 1.8, 2), generator.uniform(0.25, 0.5, 2)
    floor = generator.uniform(1.2, 2.2)
    if study.hidden == "flat":
        sizes = study.noise * sizes / 6
    if study.law is FRONTIER:
        exponent = exponents[0] / 2
        truth = np.array([floor, sizes[0] * flops.min() ** exponent, exponent])
        ahead = {"C": np.full(2, 10 * flops.max())}
    else:
        coefficients = sizes * np.array([params.min(), data.min()]) ** exponents
        truth = np.array([floor, *coefficients, *exponents])
        best = optimum(truth, 10 * flops.max(), FlopsModel())
        largest = np.sqrt(10) * np.array([params, data])[:, flops.argmax()]
        ahead = dict(zip("ND", np.stack([best[:2], largest], 1), strict=True))
    seen = {name: {"N": params, "D": data, "C": flops}[name] for name in study.law.variables}
    if study.hidden == "floor":
        truth[0] = 1e-3 * (study.law.loss(truth, **seen).min() - floor)
    noise = study.noise * generator.standard_normal(study.runs + 2)
    loss = study.law.loss(truth, **seen) * np.exp(noise[2:])
    unseen = np.log(study.law.loss(truth, **ahead)) + noise[:2]
    return Surface(table(params, data, loss), truth, ahead, unseen)


def _runs(study: Study, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if study.layout == "random":
        wide = 0.1 if study.hidden == "size" else study.decades
        params = SMALLEST_PARAMS * 10 ** (wide * generator.random(study.runs))
        return params, SMALLEST_DATA * 10 ** (study.decades * generator.random(study.runs))
    num = BUDGETS[study.runs]
    grown = 10 ** (np.linspace(0, study.decades, num)[:, None] / 2)
    offsets = 10 ** np.linspace(0, 1.4, study.runs // num)
    params = SMALLEST_PARAMS * grown * offsets
    return params.ravel(), (SMALLEST_DATA * grown * 10**1.4 / offsets).ravel()


@dataclass(frozen=True)
class Answer:
    """What a fit said of one surface: per parameter, then per run ahead.

    `identified` and `held` are [P], `ahead` and `new_run` [2], all False when `refused`; `width`
    is that of the law's interval in log loss at the first run ahead.
    """

    refused: bool
    identified: np.ndarray
    held: np.ndarray
    ahead: np.ndarray
    new_run: np.ndarray
    width: float


def answer(study: Study, seed: int, bootstrap: int, level: float) -> Answer:
    """Fit one surface as any table is fitted, and hold its intervals against the truth."""
    planted = surface(study, seed)
    fit = fit_law(planted.table, study.law, bootstrap=bootstrap, level=level, seed=seed)
    num = len(planted.truth)
    if fit.intervals is None:
        no, none = np.zeros(num, bool), np.zeros(2, bool)
        return Answer(True, no, no, none, none, np.nan)
    ends = np.array(list(fit.intervals.values()))
    exact = study.law.loss(planted.truth, **planted.ahead)
    low, high = fit.predict_interval(False, anyway=True, **planted.ahead)
    below, above = np.log(fit.predict_interval(True, anyway=True, **planted.ahead))
    return Answer(
        refused=False,
        identified=np.array([fit.profiles[name].identified for name in fit.law.names]),
        held=(ends[:, 0] <= planted.truth) & (planted.truth <= ends[:, 1]),
        ahead=(low <= exact) & (exact <= high),
        new_run=(below <= planted.unseen) & (planted.unseen <= above),
        width=float(np.log(high / low)[0]),
    )


def header(law: Law) -> str:
    """The names over `line`."""
    names = "".join(f"{name:>7}" for name in law.names)
    first = f"{'layout':<7}{'runs':>4} {'decades':>7} {'noise':>6}  {'hidden':<6}"
    ahead = f"{'best':>7}{'largest':>8}{'run':>6}{'width':>8}"
    return f"{first}{'refused':>8}{'unident.':>9} |{names} |{ahead}"


def line(study: Study, answers: list[Answer]) -> str:
    """One row of shares: surfaces refused or with a parameter called not identified, and coverage.

    A parameter's is among the fits that call it identified, "-" where those are under a tenth.
    """
    kept = [each for each in answers if not each.refused]
    refused = 1 - len(kept) / len(answers)
    text = f"{study.layout:<7}{study.runs:>4} {study.decades:>7g} {study.noise:>6g}"
    text += f"  {study.hidden:<6}{refused:>8.3f}"
    if not kept:
        return text
    identified = np.array([each.identified for each in kept])
    held = np.array([each.held for each in kept])
    open_share = float((~identified).any(1).sum() / len(answers))
    text += f"{open_share:>9.3f} |"
    for j in range(held.shape[1]):
        seen = held[identified[:, j], j]
        text += f"{seen.mean():>7.3f}" if len(seen) >= 0.1 * len(answers) else f"{'-':>7}"
    ahead = np.mean([each.ahead for each in kept], 0)
    new_run = np.mean([each.new_run for each in kept])
    width = np.nanmedian([each.width for each in kept])
    return f"{text} |{ahead[0]:>7.3f}{ahead[1]:>8.3f}{new_run:>6.3f}{width:>8.3f}"


def studies(law: Law, hidden: bool) -> list[Study]:
    """The designs of a law; with `hidden` those whose truth should be refused or named."""
    kinds = ("size", "floor", "flat") if hidden else ("",)
    # A hidden truth needs no second layout, and the frontier has neither layouts nor sizes.
    layouts = ("random",) if hidden or law is FRONTIER else ("random", "grid")
    return [
        Study(law, layout, *design, kind)
        for kind in kinds
        for layout in layouts
        for design in DESIGNS
        if not (law is FRONTIER and kind == "size")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--surfaces", type=int, default=60, help="of each design")
    add("--bootstrap", type=int, default=400, help="draws a fit")
    add("--level", type=float, default=0.95)
    add("--law", choices=LAWS, default="chinchilla")
    add("--hidden", action="store_true", help="truths that the runs cannot show")
    options = parser.parse_args()
    start = time.perf_counter()
    print(header(LAWS[options.law]))
    for study in studies(LAWS[options.law], options.hidden):
        seeds = range(options.surfaces)
        answers = [answer(study, seed, options.bootstrap, options.level) for seed in seeds]
        print(line(study, answers), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
