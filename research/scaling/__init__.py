"""The law lab: table -> checks -> fit -> held-out test. Reads tables; never imports the trainer."""

from research.scaling.fit import LawFit, fit_law
from research.scaling.frontier import fit_frontier, lower_envelope
from research.scaling.holdout import Holdout, holdout
from research.scaling.isoflop.fit import IsoflopFit, isoflop
from research.scaling.summary import PartSummary, summarise, summary
from research.scaling.table import Table, from_frame, read_file, read_runs

__all__ = [
    "Holdout",
    "IsoflopFit",
    "LawFit",
    "PartSummary",
    "Table",
    "fit_frontier",
    "fit_law",
    "from_frame",
    "holdout",
    "isoflop",
    "lower_envelope",
    "read_file",
    "read_runs",
    "summarise",
    "summary",
]
