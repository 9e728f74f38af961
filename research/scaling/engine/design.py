"""A law on one table, as the engine sees it: coordinates, values and derivatives."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from research.scaling.engine.autodiff import Autodiff
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.engine.power_sums import PowerSums, power_sums
from research.scaling.laws import Law


class Design(Protocol):
    """What `engine.minimise` needs. theta [S, P] holds S problems in the design's coordinates.

    `coefficients` are the columns of theta that are logs of numbers the law is linear in,
    `exponents` all others.
    """

    @property
    def law(self) -> Law: ...
    @property
    def variables(self) -> Mapping[str, np.ndarray]: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def coefficients(self) -> list[int]: ...
    @property
    def exponents(self) -> list[int]: ...

    def predict(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        """(Log) loss [S, rows]."""
        ...

    def jacobian(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        """Derivatives [S, rows, P] of the (log) loss."""
        ...

    def evaluate(
        self,
        theta: np.ndarray,
        target: np.ndarray,
        weights: np.ndarray,
        objective: Objective = HUBER,
        reweighted: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Objective [S], gradient [S, P] and Hessian [S, P, P].

        `target` (see Objective.target) and `weights` are [rows] or [S, rows]. With `reweighted`
        the Hessian is that of the least squares that bound the objective from above (IRLS).
        """
        ...

    def to_parameters(self, theta: np.ndarray) -> np.ndarray:
        """The parameters as published [..., P]."""
        ...

    def to_theta(self, parameters: np.ndarray) -> np.ndarray:
        """Inverse of `to_parameters`."""
        ...

    def bounds(self, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds [P] on theta, given the losses [rows]."""
        ...

    def starts(self, loss: np.ndarray, num: int) -> np.ndarray:
        """About `num` starts [S, P]."""
        ...

    def uncentred(self, name: str) -> "Design":
        """The design in which the published value of parameter `name` is one coordinate."""
        ...


def make_design(law: Law, variables: Mapping[str, np.ndarray]) -> Design:
    """Put `law` on columns [rows], one for each of its variables."""
    if law.terms:
        return power_sums(law, variables)
    columns = {name: np.asarray(variables[name], float) for name in law.variables}
    return Autodiff(law, columns, len(next(iter(columns.values()))))


__all__ = ["Autodiff", "Design", "PowerSums", "make_design"]
