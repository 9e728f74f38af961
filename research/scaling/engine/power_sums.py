"""Sums of powers in closed form: the design of every law that is one, Chinchilla's above all.

Coordinates are `log coefficient` at the geometric mean of the variables and the plain exponents:
centring takes the condition number of the Chinchilla fit from 3.5e11 to tens. Each pass over the
data is a few matrix products, shared by all problems.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from research.scaling.engine.objective import HUBER, Objective
from research.scaling.laws import Law

# A term may be as small as this share of the smallest loss, or as large as this many largest ones.
COEFFICIENT_BOUNDS = (1e-4, 10.0)


@dataclass(frozen=True)
class PowerSums:
    """A law on one table: `log L = log sum_k exp(theta[columns_k] @ features_k)`.

    `terms[k]` is (columns [m], features [m, rows]); `products` holds, for each pair of terms, the
    products of their features [rows, m * n], so that a Hessian is a handful of matrix products.
    `centres` are the means of log N, log D, log C taken out of the features. See design.py.
    """

    law: Law
    variables: Mapping[str, np.ndarray]
    terms: tuple[tuple[np.ndarray, np.ndarray], ...]
    products: tuple[tuple[int, int, np.ndarray], ...]
    centres: Mapping[str, float]
    num_rows: int

    @property
    def coefficients(self) -> list[int]:
        return [int(columns[0]) for columns, _ in self.terms]

    @property
    def exponents(self) -> list[int]:
        return [i for i in range(len(self.law.names)) if i not in self.coefficients]

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

    def to_parameters(self, theta: np.ndarray) -> np.ndarray:
        result = np.array(theta, float)
        for term, shift in self._shifts(theta):
            result[..., term] = np.exp(theta[..., term] + shift)
        return result

    def to_theta(self, parameters: np.ndarray) -> np.ndarray:
        result = np.array(parameters, float)
        for term, shift in self._shifts(result):
            result[..., term] = np.log(result[..., term]) - shift
        return result

    def bounds(self, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low = np.array([parameter.low for parameter in self.law.parameters])
        high = np.array([parameter.high for parameter in self.law.parameters])
        for columns, _ in self.terms:
            j = columns[0]
            low[j] = np.log(np.min(loss) * COEFFICIENT_BOUNDS[0])
            high[j] = np.log(np.max(loss) * COEFFICIENT_BOUNDS[1])
            if any(self.centres[v] == 0 for _, v in self.law.terms[self._term(j)].powers):
                low[j], high[j] = -300.0, 300.0  # no natural box: the exponents' box holds the fit
        return low, high

    def starts(self, loss: np.ndarray, num: int) -> np.ndarray:
        """A grid of exponents; coefficients by linear least squares given each.

        Given the exponents the law is linear in its coefficients, so only they need a grid
        (variable projection, Golub and Pereyra 1973); those that come out negative start small.
        """
        coefficients, exponents = self.coefficients, self.exponents
        values = np.geomspace(0.05, 1.5, max(2, round(num ** (1 / max(len(exponents), 1)))))
        grid = np.stack(np.meshgrid(*[values] * len(exponents), indexing="ij"), -1)
        theta = np.zeros((len(values) ** len(exponents), len(self.law.names)))
        theta[:, exponents] = grid.reshape(len(theta), -1)
        shapes = [np.exp(theta[:, columns] @ features) for columns, features in self.terms]
        matrix = np.stack(shapes, -1) / np.asarray(loss)[:, None]
        normal = np.einsum("srk,srm->skm", matrix, matrix)
        ridge = 1e-10 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(len(shapes))
        solution = np.linalg.solve(normal + ridge, matrix.sum(1)[..., None])[..., 0]
        theta[:, coefficients] = np.log(np.clip(solution, 0.02 * np.min(loss), np.max(loss)))
        return theta

    def uncentred(self, name: str) -> "PowerSums":
        term = next((t for t in self.law.terms if t.coefficient == name), None)
        plain = {variable for _, variable in term.powers} if term else set()
        centres = {v: 0.0 if v in plain else c for v, c in self.centres.items()}
        return power_sums(self.law, self.variables, centres)

    def _term(self, column: int) -> int:
        return self.coefficients.index(column)

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

    def _shifts(self, values: np.ndarray):
        names = list(self.law.names)
        for term in self.law.terms:
            shift = np.zeros(values.shape[:-1])
            for exponent, variable in term.powers:
                shift = shift + values[..., names.index(exponent)] * self.centres[variable]
            yield names.index(term.coefficient), shift


def power_sums(
    law: Law, variables: Mapping[str, np.ndarray], centres: Mapping[str, float] | None = None
) -> PowerSums:
    """Build the design of `law` on its columns [rows]; centred on their log means."""
    logs = {name: np.log(np.asarray(variables[name], float)) for name in law.variables}
    num_rows = len(next(iter(logs.values())))
    if centres is None:
        centres = {name: float(value.mean()) for name, value in logs.items()}
    index = {name: i for i, name in enumerate(law.names)}
    terms = []
    for term in law.terms:
        columns = [index[term.coefficient]]
        features = [np.ones(num_rows)]
        for exponent, variable in term.powers:
            columns.append(index[exponent])
            features.append(centres[variable] - logs[variable])
        terms.append((np.array(columns), np.stack(features)))
    products = []
    for k, (_, first) in enumerate(terms):
        for m, (_, second) in enumerate(terms[: k + 1]):
            pair = (first[:, None] * second[None]).reshape(-1, num_rows).T
            products.append((k, m, np.ascontiguousarray(pair)))
    return PowerSums(law, variables, tuple(terms), tuple(products), dict(centres), num_rows)
