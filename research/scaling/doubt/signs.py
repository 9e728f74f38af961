"""Losses of zero or less: one rule for every verb.

Where a loss is zero or less it has no logarithm. Then fits are by l2, and every error, noise and
interval is of the loss itself. A few such losses far below all the others are mistakes, though: a
missing value written as 0 or -1, or a sign too many.
"""

import numpy as np

from research.errors import UserError
from research.scaling.engine.objective import HUBER, KINDS, L2, Objective, parse
from research.scaling.laws import SIGNED_LAWS, Law
from research.scaling.table import Table
from research.scaling.table.columns import LARGEST

FEWEST = 5  # losses above zero that make one below it odd
SIGNED = "losses of zero or less: errors are of the loss itself, and fits are by l2"
OBJECTIVES = f"{', '.join(KINDS)} (default: huber:1e-3, or l2 where a loss is zero or less)"


def signed_too(text: str | None) -> bool:
    """Whether the objective that --objective names takes losses of zero or less.

    Raises:
        UserError: as `parse`.
    """
    return text is None or not parse(text).log


def objective_for(text: str | None, table: Table) -> Objective:
    """What --objective names; without it Huber's of log loss, or l2 where a loss is zero or less.

    Raises:
        UserError: as `parse` and, without --objective, `refuse_odd_signs`.
    """
    if text is not None:
        return parse(text)
    refuse_odd_signs(table)
    return HUBER if (table["L"] > 0).all() else L2


def law_for(law: Law, table: Table) -> Law:
    """`law`, or where a loss is zero or less the same with a floor of either sign, if there is."""
    positive = (table["L"] > 0).all()
    return law if positive else SIGNED_LAWS.get(f"signed_{law.name}", law)


def odd_signs(loss: np.ndarray) -> np.ndarray:
    """Mask [rows] of losses of zero or less, fewer than the others and farther below all of them
    than those range; of few losses none is odd.
    """
    low = loss <= 0
    none = np.zeros(len(loss), bool)
    if not low.any() or (~low).sum() < max(FEWEST, low.sum()):
        return none
    high = loss[~low]
    return low if high.min() - loss[low].max() > np.ptp(high) else none


def loss_base(loss: np.ndarray) -> float:
    """What losses are measured from before their logs are taken: 0 where all are positive.

    Else so far below them that logs are as good as linear there: ten times their range, so that
    errors are of the loss itself to a twentieth.
    """
    if (loss > 0).all():
        return 0.0
    return float(loss.min() - 10 * (np.ptp(loss) or 1.0))


def refuse_odd_signs(table: Table) -> None:
    """Refuse a table in which a few losses of zero or less, or of nearly nothing, look mistaken.

    Raises:
        UserError: naming the rows.
    """
    loss = table["L"]
    nothing = (loss > 0) & (loss < 1 / LARGEST)
    for mask, what in ((nothing, f"below {1 / LARGEST:g}"), (odd_signs(loss), "not positive")):
        rows = np.flatnonzero(mask)
        if len(rows):
            name = table.columns.get("loss", "L")
            numbers = ", ".join(str(table.row_number(int(row))) for row in rows[:5])
            text = f"column {name!r} is {what} in row{'s' if len(rows) > 1 else ''} {numbers}"
            raise UserError(
                f"{table.source}: {text} ('{float(loss[rows[0]]):g}'), far from the others: where"
                " it is missing leave it empty, or take the other rows by --where"
            )
