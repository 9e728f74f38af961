"""Rulers: the parts of a study that tell of the same data, each on the same axes as the others.

A part that stands on rulers says so in the study's `PARTS`: "rulers", the names of scores. Parts of
one source of data that have such a score in one unit share a ruler: what the best of their runs has
reached by each compute, and the power of compute with which that falls, where it can be told. What
is above a known truth has no floor of its own, so that the power is of all of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import altair as alt
import numpy as np
import pandas as pd

from research.errors import UserError
from research.report import grammar
from research.report.findings import law_line
from research.report.grammar import layered, mark, span, tip
from research.report.load import Part, Study, read_study
from research.run import files
from research.scaling.compare.shift import Interval
from research.scaling.compare.verdict import against_first
from research.scaling.engine import objective
from research.scaling.fit import LawFit
from research.scaling.frontier import fit_frontier
from research.scaling.laws import POWER
from research.scaling.study_laws import DRAWS
from research.scaling.table import Table, read_runs

SQUARES = objective.parse("log-l2")  # of as few points as budgets, where a median would fit two
POINTS, BAND = 40, ["loss", "low", "high"]
HEIGHT = 300
KEPT_APART = ("score_kind", "data_unit", "convention")  # may differ on a ruler, and are told there
TITLES = {"excess": "Above the entropy", "frechet_unbiased": "Frechet distance"}


@dataclass(frozen=True)
class Family:
    """A part on a ruler.

    Attributes:
        exponent: of the power of compute with which the score falls, and its interval.
        at: the score at the ruler's `common` compute by that law, and its interval.
        multiplier: the FLOPs it needs over those that the best part needs for equal scores.
        refused: why there is no law, or no multiplier.
    """

    name: str
    kind: str
    best: float
    exponent: Interval | None
    at: Interval | None
    multiplier: Interval | None
    refused: str


@dataclass(frozen=True)
class Ruler:
    """What parts of one source of data reach in one score.

    Attributes:
        of: what the data are, in words.
        runs: columns family, id, N, C, loss, best: of each run, and whether none of the part that
            spent no more is better.
        laws: columns family, C, loss, low, high.
        common: compute that every part has spent on a run, FLOPs.
        families: best first.
    """

    data: str
    score: str
    unit: str
    of: str
    runs: pd.DataFrame
    laws: pd.DataFrame
    common: float
    families: list[Family]

    @property
    def name(self) -> str:
        """Of its box on the page."""
        return f"ruler-{self.data}-{self.score}".replace("_", "-")

    @property
    def left_out(self) -> int:
        """How many runs a logarithmic axis has no place for."""
        below = int((self.runs.loss <= 0).sum())
        return below if below < len(self.runs) else 0

    @property
    def heading(self) -> str:
        title = TITLES.get(self.score, self.score.replace("_", " ").capitalize())
        return f"{title} on {self.of}"


def read_rulers(study: Study) -> list[Ruler]:
    """The rulers that the study's parts ask for, in the order of its data and of their scores."""
    about = files.read_description(study.folder).get("parts", {})
    asked = {name: tuple(each.get("rulers", ())) for name, each in about.items()}
    found = [ruler for score in _distinct(asked.values()) for ruler in _of(study, score, asked)]
    order = list(dict.fromkeys(ruler.data for ruler in found))
    return sorted(found, key=lambda ruler: order.index(ruler.data))


def _distinct(lists) -> dict[str, None]:
    return dict.fromkeys(name for names in lists for name in names)


def _of(study: Study, score: str, asked: dict[str, tuple[str, ...]]) -> Iterator[Ruler]:
    """The rulers of one score, one for each source of data that several parts read."""
    try:
        parts, tables = read_study(study.folder, score).parts, read_runs(study.folder, loss=score)
    except UserError:  # nothing has it yet
        return
    parts = [part for part in parts if score in asked.get(part.name, ()) and part.name in tables]
    for data in dict.fromkeys(part.data for part in parts):
        own = {family_of(part): part for part in parts if part.data == data}
        units = {part.unit for part in own.values()}
        if len(own) > 1 and len(units) == 1:
            yield _ruler(data, score, own, {name: tables[part.name] for name, part in own.items()})


def family_of(part: Part) -> str:
    """What a part is called on a ruler: its title up to " on ", as in "Flows on glyphs"."""
    return part.title.partition(" on ")[0]


def _ruler(data: str, score: str, parts: dict[str, Part], tables: dict[str, Table]) -> Ruler:
    runs = [part.usable[["id", "N", "budget", "C", "loss"]] for part in parts.values()]
    runs = pd.concat([_marked(each, name) for each, name in zip(runs, parts, strict=True)])
    best = runs.groupby("family").loss.min().sort_values()
    common = float(runs.groupby("family").C.max().min())
    laws = {name: _law(tables[name]) for name in best.index}
    times = _multipliers({name: tables[name] for name in best.index})
    families = []
    for name, (law, refused) in laws.items():
        multiplier, why = times[name]
        exponent = at = None
        if law and law.parameters and law.intervals:
            exponent = Interval(law.parameters["alpha"], *law.intervals["alpha"])
            at = Interval(*law_line(law, np.array([common]), common, "C").iloc[0][BAND])
        reached = parts[name].kind, float(best[name])
        families.append(Family(name, *reached, exponent, at, multiplier, refused or why))
    lines = [_line(name, law, runs) for name, (law, _) in laws.items() if law is not None]
    none = pd.DataFrame(columns=["family", "C", *BAND], dtype=float)
    first = next(iter(parts.values()))
    about = first.unit, first.title.partition(" on ")[2] or data.replace("_", " ")
    drawn = pd.concat(lines, ignore_index=True) if lines else none
    return Ruler(data, score, *about, runs.reset_index(drop=True), drawn, common, families)


def _marked(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Runs of a part, and whether each is the best of its budget, and better than at smaller ones.

    Those of one budget differ a little in what they spent.
    """
    lowest = runs.groupby(runs.budget.fillna(runs.C)).loss
    best = runs.loc[lowest.idxmin()]  # by budget
    best = best[best.loss < best.loss.cummin().shift(fill_value=np.inf)]
    return runs.assign(family=name, best=runs.index.isin(best.index))


def _law(table: Table) -> tuple[LawFit | None, str]:
    """The power of compute of the best runs, or why there is none."""
    try:
        found = fit_frontier(table, law=POWER, objective=SQUARES, bootstrap=DRAWS)
    except UserError as error:
        return None, str(error)
    return (None, found.refused) if found.refused else (found, "")


def _line(name: str, law: LawFit, runs: pd.DataFrame) -> pd.DataFrame:
    spent = runs[runs.family == name].C
    scale = np.geomspace(spent.min(), spent.max(), POINTS)
    return law_line(law, scale, spent.max(), "C").assign(family=name)[["family", "C", *BAND]]


def _multipliers(tables: dict[str, Table]) -> dict[str, tuple[Interval | None, str]]:
    """FLOPs of each part over those of the first, and why they cannot be told."""
    first = next(iter(tables))
    alike = {
        name: replace(table, frame=table.frame.drop(columns=[*KEPT_APART], errors="ignore"))
        for name, table in tables.items()
    }
    found: dict[str, tuple[Interval | None, str]] = {first: (None, "")}
    for each in against_first(alike):
        if each.flops is None:
            found[each.names[1]] = None, each.refused or ""
        else:  # of the first over the other
            value, low, high = each.flops.value
            found[each.names[1]] = Interval(1 / value, 1 / high, 1 / low), ""
    return found


def draw(ruler: Ruler, height: int = HEIGHT) -> alt.LayerChart:
    """Draw every run of a ruler, the best so far of each part as a line, and the laws' bands."""
    order = [family.name for family in ruler.families]
    # What is at the truth or below it by chance has no place on a logarithmic axis.
    runs = ruler.runs[ruler.runs.loss > 0] if ruler.left_out else ruler.runs
    x = grammar.resource({}, runs.C, "C")
    y = grammar.loss(runs.loss, "loss", f"{TITLES.get(ruler.score, 'Loss')} ({ruler.unit})")
    color = alt.Color("family:N", sort=order, legend=alt.Legend(title=None, symbolType="stroke"))
    tooltip = [tip("family", "Family"), tip("id", "Run"), tip("N", "Parameters N", ",.0f")]
    tooltip += [tip("C", "Compute C (FLOPs)", ".2e"), tip("loss", ruler.heading, ".4g")]
    shape = alt.Shape("family:N", sort=order, legend=None)
    return layered(
        span(ruler.laws, "band", y, x, color=color),
        mark(runs[~runs.best], "dot", x, y, color=color, opacity=alt.value(0.5)),
        mark(runs[runs.best], "line", x, y, color=color),
        mark(runs[runs.best], "run", x, y, color=color, shape=shape, tooltip=tooltip),
        height=height,
    )
