"""A law on one table, in the coordinates that the engine moves in."""

import abc
import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from research.scaling.engine.objective import HUBER, Objective
from research.scaling.laws import Law

# A floor may be as small as this share of the smallest loss, and as large as so many largest ones.
FLOOR_BOUNDS = (1e-4, 10.0)
COEFFICIENT_BOUNDS = (1e-30, 1e60)


@dataclass(frozen=True)
class Design(abc.ABC):
    """What `engine.minimise` needs. theta [S, P] holds S problems: each parameter, or its log.

    `variables` are the law's columns [rows].
    """

    law: Law
    variables: Mapping[str, np.ndarray]

    @functools.cached_property
    def num_rows(self) -> int:
        return len(next(iter(self.variables.values())))

    @functools.cached_property
    def logs(self) -> list[int]:
        """Columns of theta that are logs of their parameters."""
        return [i for i, p in enumerate(self.law.parameters) if p.logarithmic]

    @functools.cached_property
    def coefficients(self) -> list[int]:
        """Columns of theta that are logs of numbers the law is linear in."""
        return [i for i in self.logs if self.law.parameters[i].linear]

    @functools.cached_property
    def exponents(self) -> list[int]:
        """All others."""
        return [i for i in range(len(self.law.names)) if i not in self.coefficients]

    @abc.abstractmethod
    def predict(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        """(Log) loss [S, rows]."""

    @abc.abstractmethod
    def jacobian(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        """Derivatives [S, rows, P] of the (log) loss."""

    @abc.abstractmethod
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

    def shift(self, theta: np.ndarray) -> np.ndarray | float:
        """What theta's logs [..., P] fall short of those of the parameters; 0 unless centred."""
        return 0.0

    def uncentred(self, name: str) -> "Design":
        """The design in which the published value of parameter `name` is one coordinate."""
        return self

    def to_parameters(self, theta: np.ndarray) -> np.ndarray:
        """The parameters as published [..., P]."""
        result = theta + self.shift(theta)
        with np.errstate(over="ignore"):
            result[..., self.logs] = np.exp(result[..., self.logs])
        return result

    def to_theta(self, parameters: np.ndarray) -> np.ndarray:
        """Inverse of `to_parameters`."""
        result = np.array(parameters, float)
        result[..., self.logs] = np.log(result[..., self.logs])
        return result - self.shift(result)

    def bounds(self, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds [P] on theta, given the losses [rows]."""
        ends = []
        for p in self.law.parameters:
            low, high = p.low, p.high
            if p.kind == "floor" and p.logarithmic:
                low = max(low, FLOOR_BOUNDS[0] * np.min(loss))
                high = min(high, FLOOR_BOUNDS[1] * np.max(loss))
            elif p.logarithmic:
                low, high = max(low, COEFFICIENT_BOUNDS[0]), min(high, COEFFICIENT_BOUNDS[1])
            ends.append(np.log([low, high]) if p.logarithmic else [low, high])
        low, high = np.array(ends, float).T
        return low, high

    def grids(self, num: int) -> list[np.ndarray]:
        """Values to start from of each parameter, 0 of those that the law is linear in."""
        return [np.array(p.starts(self.variables)) for p in self.law.parameters]

    def starts(self, loss: np.ndarray, num: int) -> np.ndarray:
        """About `num` starts [S, P]: grids of all other parameters, the linear ones given each.

        Given the others the law is linear in these (variable projection, Golub and Pereyra 1973):
        they start at least squares, and small where those are negative and they may not be. A
        grid of more than `num` points is thinned evenly.
        """
        points = np.array(list(itertools.product(*self.grids(num))), float)
        if len(points) > num:
            points = np.random.default_rng(0).permutation(points)[:num]
        linear = [i for i, p in enumerate(self.law.parameters) if p.linear]
        if linear:
            points[:, linear] = self._least_squares(points, linear, np.asarray(loss, float))
        points[:, self.logs] = np.maximum(points[:, self.logs], 1e-300)
        return np.clip(self.to_theta(points), *self.bounds(loss))

    def _least_squares(self, points, linear, loss) -> np.ndarray:
        """The linear parameters [S, K] of least relative squares, given the others; of least
        squares where losses may be below zero.
        """
        base = points.copy()
        base[:, linear] = 0.0
        offset = self.law.loss(base, **self.variables)
        shapes = []
        for j in linear:
            unit = base.copy()
            unit[:, j] = 1.0
            shapes.append(self.law.loss(unit, **self.variables) - offset)
        weight = loss if (loss > 0).all() else np.full_like(loss, np.ptp(loss) or 1.0)
        matrix = np.nan_to_num(np.stack(shapes, -1) / weight[:, None], posinf=0, neginf=0)
        scale = np.sqrt((matrix**2).sum(1, keepdims=True)) + 1e-300
        matrix = matrix / scale
        normal = np.einsum("srk,srm->skm", matrix, matrix) + 1e-10 * np.eye(len(linear))
        wanted = np.einsum("srk,sr->sk", matrix, np.nan_to_num((loss - offset) / weight))
        solution = np.linalg.solve(normal, wanted[..., None])[..., 0] / scale[:, 0]
        positive = [self.law.parameters[j].low >= 0 for j in linear]
        # Small is a hundredth of the loss at the rows where the term is largest.
        least = 0.01 / (np.abs(matrix * scale).max(1) + 1e-300)
        return np.where(positive, np.maximum(solution, least), solution)
