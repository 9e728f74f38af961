"""Sums of powers in closed form: the design of every law that is one, Chinchilla's above all.

Coordinates are `log coefficient` at the geometric mean of the variables and the plain exponents:
centring takes the condition number of the Chinchilla fit from 3.5e11 to tens. Each pass over the
data is a few matrix products, shared by all problems.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from research.scaling.engine.coordinates import FLOOR_BOUNDS, Design
from research.scaling.engine.objective import HUBER, Objective

UNCENTRED_BOUNDS = (-300.0, 300.0)  # no natural box: the exponents' box holds the fit


@dataclass(frozen=True)
class PowerSums(Design):
    """A law on one table: `log L = log sum_k exp(theta[columns_k] @ features_k)`.

    `centres` are the means of log N, log D, log C taken out of the features.
    """

    centres: Mapping[str, float]

    @functools.cached_property
    def terms(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(columns of theta [m], features [m, rows]) of each term."""
        index = {name: i for i, name in enumerate(self.law.names)}
        found = []
        for term in self.law.terms:
            columns = [index[name] for name in (term.coefficient, *(a for a, _ in term.powers))]
            features = [self.centres[v] - np.log(self.variables[v]) for _, v in term.powers]
            found.append((np.array(columns), np.stack([np.ones(self.num_rows), *features])))
        return found

    @functools.cached_property
    def products(self) -> list[tuple[int, int, np.ndarray]]:
        """For each pair of terms the products of their features [rows, m * n], so that a Hessian
        is a handful of matrix products."""
        found = []
        for k, (_, first) in enumerate(self.terms):
            for m, (_, second) in enumerate(self.terms[: k + 1]):
                pair = (first[:, None] * second[None]).reshape(-1, self.num_rows).T
                found.append((k, m, np.ascontiguousarray(pair)))
        return found

    def predict(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        total = self._values(theta)[1]
        return np.log(total) if log else total

    def jacobian(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        values, total = self._values(theta)
        result = np.zeros((*total.shape, len(self.law.names)))
        for (columns, features), value in zip(self.terms, values, strict=True):
            result[..., columns] += (value / total if log else value)[..., None] * features.T
        return result

    def evaluate(
        self,
        theta: np.ndarray,
        target: np.ndarray,
        weights: np.ndarray,
        objective: Objective = HUBER,
        reweighted: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num, size = theta.shape
        values, total = self._values(theta)
        residual = (np.log(total) if objective.log else total) - target
        cost = (weights * objective.cost(residual)).sum(1)
        slope, curvature = objective.derivatives(residual, reweighted)
        slope, curvature = slope * weights, curvature * weights
        if objective.log:
            inverse = 1 / total
            values = [value * inverse for value in values]
            if not reweighted:
                curvature = curvature - slope
        gradient = np.zeros((num, size))
        hessian = np.zeros((num, size, size))
        for (columns, features), value in zip(self.terms, values, strict=True):
            gradient[:, columns] += (slope * value) @ features.T
        curved = [curvature * value for value in values]
        for k, m, pair in self.products:
            product = curved[k] * values[m]
            if k == m and not reweighted:
                product = product + slope * values[k]
            rows, columns = self.terms[k][0], self.terms[m][0]
            block = (product @ pair).reshape(num, len(rows), len(columns))
            hessian[:, rows[:, None], columns[None, :]] += block
            if k != m:
                hessian[:, columns[:, None], rows[None, :]] += block.transpose(0, 2, 1)
        return cost, gradient, hessian

    def shift(self, theta: np.ndarray) -> np.ndarray:
        result = np.zeros_like(theta, float)
        for (columns, _), term in zip(self.terms, self.law.terms, strict=True):
            centres = np.array([self.centres[variable] for _, variable in term.powers])
            result[..., columns[0]] = theta[..., columns[1:]] @ centres
        return result

    def bounds(self, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every term is bounded as a floor is, where it is centred."""
        low, high = super().bounds(loss)
        box = np.log([np.min(loss) * FLOOR_BOUNDS[0], np.max(loss) * FLOOR_BOUNDS[1]])
        for (columns, _), term in zip(self.terms, self.law.terms, strict=True):
            centred = all(self.centres[variable] for _, variable in term.powers)
            low[columns[0]], high[columns[0]] = box if centred else UNCENTRED_BOUNDS
        return low, high

    def grids(self, num: int) -> list[np.ndarray]:
        exponents = self.exponents
        values = np.geomspace(0.05, 1.5, max(2, round(num ** (1 / max(len(exponents), 1)))))
        return [values if i in exponents else np.zeros(1) for i in range(len(self.law.names))]

    def starts(self, loss: np.ndarray, num: int) -> np.ndarray:
        """No term starts below a fiftieth of the smallest loss, or above the largest."""
        theta = super().starts(loss, num)
        ends = np.log([0.02 * np.min(loss), np.max(loss)])
        theta[:, self.coefficients] = np.clip(theta[:, self.coefficients], *ends)
        return theta

    def uncentred(self, name: str) -> "PowerSums":
        term = next((t for t in self.law.terms if t.coefficient == name), None)
        plain = {variable for _, variable in term.powers} if term else set()
        return replace(self, centres={v: 0.0 if v in plain else c for v, c in self.centres.items()})

    def _values(self, theta: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Each term's value, and their sum [S, rows]; a constant term stays [S, 1]."""
        values = []
        for columns, features in self.terms:
            power = theta[:, columns] @ features if len(columns) > 1 else theta[:, columns]
            values.append(np.exp(power))
        total = np.zeros((1, self.num_rows))
        for value in values:
            total = total + value
        return values, total
