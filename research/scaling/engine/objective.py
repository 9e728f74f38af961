"""What a fit minimises: a sum over rows of Huber's, absolute or squared loss of the residual."""

from dataclasses import dataclass

import numpy as np

from research.errors import UserError, nearest

KINDS = ("huber:1e-3", "lad", "log-l2", "l2")
# Least absolute deviations descend as Huber's loss with these deltas, then step between vertices.
SHRINKING = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class Objective:
    """`sum_i w_i rho(r_i)` with r = log prediction - log loss, or their difference where not `log`.

    rho is Huber's: r^2 / 2 up to `delta`, a line beyond. `delta` inf is least squares; with `lad`
    rho is |r| itself, and `delta` only says how sharply its corner is rounded while descending.
    """

    delta: float = 1e-3
    log: bool = True
    lad: bool = False

    @property
    def name(self) -> str:
        """As `--objective` takes it."""
        if self.lad:
            return "lad"
        if np.isinf(self.delta):
            return "log-l2" if self.log else "l2"
        return f"huber:{self.delta:g}"

    @property
    def description(self) -> str:
        """For laws.json and tables."""
        kind = {"lad": "absolute deviations", "log-l2": "squares", "l2": "squares"}
        of = "log loss" if self.log else "loss"
        return f"{kind.get(self.name, self.name)} on {of}, sum"

    def target(self, loss: np.ndarray) -> np.ndarray:
        """What predictions are compared with."""
        return np.log(loss) if self.log else np.asarray(loss, float)

    def cost(self, residual: np.ndarray) -> np.ndarray:
        """rho of each residual, elementwise."""
        size = np.abs(residual)
        clipped = np.minimum(size, self.delta)
        value = clipped * (size - 0.5 * clipped)
        return value / self.delta if self.lad else value

    def derivatives(self, residual: np.ndarray, reweighted: bool) -> tuple[np.ndarray, np.ndarray]:
        """rho' and rho''; `reweighted` gives rho' / r for the latter (IRLS): never negative."""
        size = np.abs(residual)
        slope = np.clip(residual, -self.delta, self.delta)
        if reweighted and np.isfinite(self.delta):
            curvature = self.delta / np.maximum(size, self.delta)
        else:
            curvature = (size <= self.delta).astype(float)
        scale = 1 / self.delta if self.lad else 1.0
        return slope * scale, curvature * scale


HUBER = Objective()
L2 = Objective(delta=np.inf, log=False)
LAD = Objective(delta=SHRINKING[-1], lad=True)


def parse(text: str) -> Objective:
    """Read huber:DELTA, lad, log-l2 or l2.

    Raises:
        UserError: anything else; the nearest is named.
    """
    simple = {
        "lad": LAD,
        "log-l2": Objective(delta=np.inf),
        "l2": L2,
        "huber": HUBER,
    }
    if text in simple:
        return simple[text]
    kind, _, number = text.partition(":")
    try:
        delta = float(number) if kind == "huber" else np.nan
    except ValueError:
        delta = np.nan
    if not 0 < delta < np.inf:
        raise UserError(
            f"--objective {text!r}: expected one of {', '.join(KINDS)}{nearest(text, KINDS)}"
        )
    return Objective(delta=delta)
