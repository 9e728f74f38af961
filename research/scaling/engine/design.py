"""The design of a law on a table: in closed form where it is a sum of powers, else by JAX."""

from collections.abc import Mapping

import numpy as np

from research.scaling.engine.autodiff import Autodiff
from research.scaling.engine.coordinates import Design
from research.scaling.engine.power_sums import PowerSums
from research.scaling.laws import Law

__all__ = ["Design", "make_design"]


def make_design(
    law: Law, variables: Mapping[str, np.ndarray], centres: Mapping[str, float] | None = None
) -> Design:
    """Put `law` on columns [rows], one for each of its variables.

    `centres`, by default their log means, are where coefficients of sums of powers are stated.
    """
    columns = {name: np.asarray(variables[name], float) for name in law.variables}
    if not law.terms:
        return Autodiff(law, columns)
    if centres is None:
        centres = {name: float(np.log(column).mean()) for name, column in columns.items()}
    return PowerSums(law, columns, centres)
