"""Anybody's table as a study of one part, so that the same page is written of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from research.errors import UserError
from research.numbers import count
from research.report.load import NO_CURVES, RUN_COLUMNS, Part, Study
from research.scaling.isoflop.fit import budgets, has_budgets
from research.scaling.table import Table
from research.scaling.table.table import UNSTATED

MOST_ROWS = 2_000  # of a page: each is a row of its table and a point of its figures


def study_of(table: Table) -> tuple[Study, Table]:
    """The study that a table is, and the table with the ids and budgets by which it is drawn.

    Raises:
        UserError: more rows than a page can show.
    """
    if len(table) > MOST_ROWS:
        raise UserError(
            f"{table.source}: a page shows {MOST_ROWS} rows, not {len(table)}; choose with --where"
        )
    names = [f"row {k}" for k in range(1, len(table) + 1)]
    drawn = table.frame.assign(id=names)
    if has_budgets(table):
        drawn = drawn.assign(budget=budgets(table))
    table = replace(table, frame=drawn)
    params, _, flops = table.convention.removeprefix("params: ").partition("; flops: ")
    name = Path(table.source).stem
    part = Part(
        name="table",
        title=name,
        family="rows",
        data=table.source,
        unit=table.loss_unit if table.loss_unit != UNSTATED else "unit not stated",
        kind="as given",
        data_unit=table.data_unit,
        params_convention=params,
        flops_convention=flops,
        runs=_runs(table),
        curves=NO_CURVES,
    )
    study = Study(
        folder=Path(table.source).parent,
        title=f"The laws of {name}",
        question="; ".join(table.notes),
        parts=[part],
        flops=float(part.runs.C.sum()),
    )
    return study, table


def _runs(table: Table) -> pd.DataFrame:
    """RUN_COLUMNS of the rows; what a table does not say is not a number."""
    frame = table.frame
    size, amount, flops = (frame[name].to_numpy(float) for name in "NDC")
    known = {
        "id": frame["id"],
        "part": "table",
        "size": [count(value) for value in size],
        "budget": frame["budget"] if has_budgets(table) else np.nan,
        "N": size,
        "D": amount,
        "C": flops,
        "flops_6nd": 6 * size * amount,
        "flops_spent": flops,
        "loss": frame["L"],
        "unit": table.loss_unit,
        "kind": "as given",
        "flags": "",
        "usable": True,
        "held_out": False,
    }
    runs = pd.DataFrame({name: known.get(name, np.nan) for name in RUN_COLUMNS}, index=frame.index)
    return runs.sort_values(["N", "C"], ignore_index=True)
