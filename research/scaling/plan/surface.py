"""The cheapest size and data under any law L(N, D): searched on the log of N, many draws at once.

A law enters as a `Surface`: parameters [S, P], one row a draw, and what else it reads. Sizes are
arrays [S, R]: R sizes for each draw. FLOPs are those of the table the law was fitted to
(optimal.FlopsModel); a forward pass is a third of a training step (Kaplan 2020, section 2.1).
"""

from dataclasses import dataclass, field, replace

import numpy as np

from research.scaling.laws import CHINCHILLA, Law
from research.scaling.plan.optimal import FlopsModel, optimum

# Tokens per parameter of the smallest and of the largest size that an optimum is searched among.
RATIOS = (1e7, 1e-4)
GRID = 241
MOST_DATA = 1e24


@dataclass(frozen=True)
class Surface:
    """L(N, D) of `draws` [S, P]; `unique` data cap D, or are the law's U where it knows repeats."""

    law: Law
    draws: np.ndarray
    model: FlopsModel
    unique: float | None = None
    given: dict[str, float] = field(default_factory=dict)

    @property
    def repeats(self) -> bool:
        """Whether the law knows what repeated data are worth."""
        return "U" in self.law.variables

    @property
    def most_data(self) -> float:
        """Data that may be trained on."""
        return MOST_DATA if self.unique is None or self.repeats else self.unique

    def loss(self, params: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Predicted loss [S, R] at sizes and data [S, R], or [R] for every draw."""
        values = {name: np.full_like(params, value) for name, value in self.given.items()}
        values.update(N=params, D=data)
        if self.repeats:
            values["U"] = data if self.unique is None else np.minimum(data, self.unique)
        columns = {name: np.ascontiguousarray(values[name]) for name in self.law.variables}
        with np.errstate(all="ignore"):
            result = self.law.loss(self.draws, **columns)
        return np.where(np.isfinite(result), result, np.inf)

    def one(self) -> "Surface":
        """The surface of the first draw alone."""
        return replace(self, draws=self.draws[:1])

    def serving(self, params: np.ndarray, tokens: float) -> np.ndarray:
        """FLOPs of a forward pass over `tokens`: 2 N T where training takes 6 N D."""
        return self.model.flops(params, tokens) / 3


def hair_above(loss: np.ndarray) -> np.ndarray:
    """`loss`, and as much as rounding may take from it."""
    return loss + 1e-12 * np.abs(loss)


def best_size(surface: Surface, flops: float) -> np.ndarray:
    """Log N [S] of least loss at `flops`; nan where the law has none within RATIOS.

    Where data are capped no smaller size is looked at than the one that uses all of them.
    """
    if surface.law is CHINCHILLA and surface.unique is None:
        with np.errstate(all="ignore"):
            return np.log(optimum(surface.draws, flops, surface.model)[..., 0])
    model = surface.model
    low, high = ((flops / (model.factor * ratio)) ** (1 / (model.power + 1)) for ratio in RATIOS)
    floor = model.params(flops, surface.most_data)
    capped = floor > low
    low = max(low, floor)

    def loss(log_params: np.ndarray) -> np.ndarray:
        params = np.exp(log_params)
        return surface.loss(params, model.data(flops, params))

    best, edge = _search(loss, np.log(low), np.log(high), len(surface.draws))
    allowed = (edge == 0) | ((edge == -1) & capped)
    best = np.where((edge == -1) & capped, np.log(low), best)
    return np.where(allowed, best, np.nan)


def data_for(surface: Surface, params: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Data [S, R] with which sizes [S, R] reach the loss target [S, R]; inf where none does."""
    low = np.zeros_like(params)
    high = np.full_like(params, np.log(surface.most_data))
    reached = surface.loss(params, np.exp(high)) <= target
    for _ in range(64):
        middle = (low + high) / 2
        enough = surface.loss(params, np.exp(middle)) <= target
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    return np.where(reached, np.exp(high), np.inf)


def cheapest_to_serve(
    surface: Surface, log_best: np.ndarray, flops: float, tokens: float
) -> tuple[np.ndarray, np.ndarray]:
    """N and D [S] that cost least to train and serve at the loss of the optimum `log_best` [S].

    Sardana 2023 (arXiv 2401.00448, equation 3): minimise 6 N D + 2 N T subject to L(N, D) = loss.
    Serving only favours smaller sizes, so those from a thousandth of the optimum are searched.
    """
    params = np.exp(log_best)[:, None]
    # At the optimum itself the only data that reach its loss are its own.
    target = hair_above(surface.loss(params, surface.model.data(flops, params)))

    def total(shift: np.ndarray) -> np.ndarray:
        smaller = params * np.exp(shift)
        data = data_for(surface, smaller, np.broadcast_to(target, smaller.shape))
        return np.log(surface.model.flops(smaller, data) + surface.serving(smaller, tokens))

    shift, edge = _search(total, np.log(1e-3), 0.0, len(log_best))
    size = np.exp(log_best + np.where(edge == 1, 0.0, shift))
    return size, data_for(surface, size[:, None], target)[:, 0]


def _search(function, low: float, high: float, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Least point [S] of function([S, R]) between two ends; -1 or 1 where it is an end, else 0.

    A grid finds the valley, golden sections its bottom.
    """
    grid = np.linspace(low, high, GRID)
    lowest = function(np.broadcast_to(grid, (draws, GRID)).copy()).argmin(1)
    edge = np.where(lowest == 0, -1, np.where(lowest == GRID - 1, 1, 0))
    left = grid[np.maximum(lowest - 1, 0)][:, None]
    right = grid[np.minimum(lowest + 1, GRID - 1)][:, None]
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(48):
        first, second = right - ratio * (right - left), left + ratio * (right - left)
        values = function(np.concatenate([first, second], 1))
        lower = (values[:, 0] < values[:, 1])[:, None]
        right, left = np.where(lower, second, right), np.where(lower, left, first)
    return ((left + right) / 2)[:, 0], edge
