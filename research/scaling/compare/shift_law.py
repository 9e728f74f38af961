"""The law of a comparison: arm A is arm B with its resource, and perhaps its sizes, rescaled.

B has the law L = E + A / N^alpha + B / D^beta (Hoffmann 2022) with D = X / N of a resource X, or
where sizes were not varied L = E + B / X^beta. A at (N, X) is B at (N / s, X_B), X = m(X_B) X_B and
log m linear in log X_B. Arms that differ in E nowhere, and in A and B as they may, are such a pair
exactly. How much X an arm needs for a loss is said of the best of the sizes that were run: beyond
them nothing is known of either arm.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy


@dataclass(frozen=True)
class Pairs:
    """Runs of both arms: `size` (or None) and `resource` are logarithms [runs], as is `loss`.

    `second` [runs] says which are B's. `pairs` [pairs, 2] are the rows of A and B that share a cell
    and a seed; `cluster` [runs] numbers what shares noise: runs of one trunk. `what` is how A is
    rescaled: "best" at the best size of each budget, "data" at equal sizes, where the resource is
    data, and "size" at equal data, where it is the size and `size` is the data.
    """

    size: np.ndarray | None
    resource: np.ndarray
    loss: np.ndarray
    second: np.ndarray
    pairs: np.ndarray
    cluster: np.ndarray
    what: str = "best"

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters: of B's law, then of the shift."""
        law = ("floor", "scale", "beta")
        law += () if self.size is None else ("size_scale", "alpha")
        free = ("size_shift",) if self.size is not None and self.what == "best" else ()
        return (*law, "shift", "trend", *free)

    @cached_property
    def alone(self) -> np.ndarray:
        """Rows of the runs that are in no pair."""
        return np.setdiff1d(np.arange(len(self.loss)), self.pairs)

    @cached_property
    def bound(self) -> float:
        """What the floor is below: the best loss."""
        return float(np.exp(self.loss.min()))

    def sizes(self, second: bool) -> tuple[float, float]:
        """The smallest and largest log size of an arm; the middle of all where it is held equal."""
        if self.size is None or self.what != "best":
            return 0.0, 0.0
        own = self.size[self.second == second]
        return float(own.min()), float(own.max())


@dataclass(frozen=True)
class ShiftLaw:
    """The law of `of` with parameters `theta`: losses of runs, and what a loss takes of either arm.

    Exponents and scales are logarithms, as are resources, sizes, data and the shift; the floor is a
    logit, of its share of the best loss.
    """

    of: Pairs
    named: dict[str, float]

    @classmethod
    def at(cls, of: Pairs, theta: np.ndarray) -> "ShiftLaw":
        return cls(of, dict(zip(of.names, theta.tolist(), strict=True)))

    def __getitem__(self, name: str) -> float:
        return self.named.get(name, 0.0)

    @property
    def floor(self) -> float:
        """E, below every loss."""
        return self.of.bound * float(scipy.special.expit(self["floor"]))

    @property
    def exponents(self) -> tuple[float, float]:
        """alpha and beta."""
        return float(np.exp(self["alpha"])), float(np.exp(self["beta"]))

    def losses(self) -> np.ndarray:
        """Log losses [runs] of both arms."""
        of, x = self.of, self.of.resource
        x = np.where(of.second, x, (x - self["shift"]) * np.exp(-self["trend"]))
        if of.size is None:
            return self._log_loss(None, x)
        if of.what != "best":
            return self._log_loss(of.size, x)
        n = np.where(of.second, of.size, of.size - self["size_shift"])
        return self._log_loss(n, x - n)

    def _log_loss(self, n, d) -> np.ndarray:
        """Log losses of B at log sizes `n`, or none, and log data `d`."""
        alpha, beta = self.exponents
        excess = self["scale"] - beta * d
        if n is not None:
            excess = np.logaddexp(excess, self["size_scale"] - alpha * n)
        return np.logaddexp(np.log(self.floor), np.clip(excess, -300.0, 300.0))

    def frontier(self, x, second: bool):
        """The loss that an arm reaches with log resource `x`, at the best of its sizes."""
        if not second:
            x = (x - self["shift"]) * np.exp(-self["trend"])
        if self.of.size is None:
            return np.exp(self._log_loss(None, x))
        if self.of.what != "best":
            return np.exp(self._log_loss(0.0, x))
        alpha, beta = self.exponents
        best = self["size_scale"] - self["scale"] + self["alpha"] - self["beta"] + beta * x
        n = self._run(best / (alpha + beta), second)
        return np.exp(self._log_loss(n, x - n))

    def needed(self, loss: float, second: bool) -> float:
        """The log resource that an arm takes to `loss`, at the best of its sizes."""
        alpha, beta = self.exponents
        above, n = loss - self.floor, 0.0
        if self.of.size is not None:
            n = self["size_scale"] - np.log(max(above, 1e-300) * beta / (alpha + beta))
            n = self._run(n / alpha, second)
            above -= np.exp(self["size_scale"] - alpha * n)
        x = (self["scale"] - np.log(max(above, 1e-300))) / beta
        x += n if self.of.what == "best" else 0.0
        return float(x if second else x * np.exp(self["trend"]) + self["shift"])

    def _run(self, n, second: bool):
        """The size in B's terms nearest to `n` that an arm was run at."""
        low, high = self.of.sizes(second)
        moved = 0.0 if second else self["size_shift"]
        return np.clip(n, low - moved, high - moved)

    def log_multiplier(self, loss: float) -> float:
        """How much more A takes to `loss` than B, as a logarithm."""
        return self.needed(loss, False) - self.needed(loss, True)

    def trend(self, losses: tuple[float, float]) -> float:
        """The exponent of the multiplier in B's resource, between two losses."""
        ends = [self.needed(loss, True) for loss in losses]
        return float(np.diff([self.log_multiplier(loss) for loss in losses])[0] / np.diff(ends)[0])
