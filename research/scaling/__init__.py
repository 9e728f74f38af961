"""The law lab: table -> checks -> fit -> held-out test. Reads tables; never imports the trainer.

Every verb of the command line is a function here that returns a documented dataclass:

    fit_law(table, law) -> LawFit             fit; `choose` is --law auto
    isoflop(table) -> IsoflopFit              isoflop
    backtest(table, holdout) -> Backtest      backtest
    compare(arms) -> Comparison               compare
    transfer(table, over) -> Transfer         transfer
    critical_batch(rows) -> CriticalBatch     batch
    extrapolate(curves) -> Extrapolation      extrapolate; `curves_from_frame` makes its curves
    next_runs(pool, ...) -> NextRuns          next
    plan(laws_json, flops) -> Plan            plan
    predict(laws_json, runs) -> Prediction    predict
    reproduce(name, path) -> Reproduction     reproduce

`read_file`, `from_frame` and `read_runs` make tables.
"""

from research.scaling.backtest import Backtest, backtest
from research.scaling.choice import Choice, choose
from research.scaling.compare.verdict import Comparison, compare
from research.scaling.critical_batch import CriticalBatch, critical_batch
from research.scaling.extrapolate.curves import Curves
from research.scaling.extrapolate.curves import from_frame as curves_from_frame
from research.scaling.extrapolate.forecast import Extrapolation, extrapolate
from research.scaling.fit import LawFit, fit_law
from research.scaling.frontier import fit_frontier, lower_envelope
from research.scaling.holdout import Holdout, holdout
from research.scaling.isoflop.fit import IsoflopFit, isoflop
from research.scaling.next.runs import NextRuns, next_runs
from research.scaling.plan.budget import Plan, plan
from research.scaling.plan.prediction import Prediction, predict
from research.scaling.reproduce import Reproduction, reproduce
from research.scaling.summary import PartSummary, summarise
from research.scaling.table import Table, from_frame, read_file, read_runs
from research.scaling.transfer import Transfer, transfer

__all__ = [
    "Backtest",
    "Choice",
    "Comparison",
    "CriticalBatch",
    "Curves",
    "Extrapolation",
    "Holdout",
    "IsoflopFit",
    "LawFit",
    "NextRuns",
    "PartSummary",
    "Plan",
    "Prediction",
    "Reproduction",
    "Table",
    "Transfer",
    "backtest",
    "choose",
    "compare",
    "critical_batch",
    "curves_from_frame",
    "extrapolate",
    "fit_frontier",
    "fit_law",
    "from_frame",
    "holdout",
    "isoflop",
    "lower_envelope",
    "next_runs",
    "plan",
    "predict",
    "read_file",
    "read_runs",
    "reproduce",
    "summarise",
    "transfer",
]
