"""Ends of curves that go another way than the curve before them."""

from dataclasses import dataclass

import numpy as np

from research.scaling.extrapolate.fit import Points

FEWEST = 3  # points after a bend; twice as many before it
MOST = 12
# t of the change of slope: the largest of several places, over a noise that is estimated.
EVIDENCE = 5.0
LEAST_NOISE = 1e-3  # of log loss
FARTHEST = 0.5  # the points before are those within the later half of the curve


@dataclass(frozen=True)
class Ends:
    """Ends of curves [B] that bend, straight lines of log loss over u since a hinge.

    `level` at the last point (u = 0) and `slope` are nan without a bend; `length` is that in u.
    """

    level: np.ndarray
    slope: np.ndarray
    length: np.ndarray

    def missed(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """What laws miss of the slope [B], 0 without a bend: negative where the end falls.

        `start` and `stop` [B] are the laws at u = -length / 2 and 0: laws that fall there as the
        end does have followed it, and may flatten later.
        """
        follows = (stop - start) / (0.5 * self.length)
        sign = np.sign(self.slope)
        return np.nan_to_num(sign * np.maximum(sign * (self.slope - follows), 0))


def bent_ends(points: Points, noise: np.ndarray) -> Ends:
    """The ends of curves that bend there.

    A straight line with one hinge is fitted to the later half of the points for every place of the
    hinge; `noise` [B] is that of log loss. What counts is an end that falls faster than the curve
    before it (a cooldown, an error that starts to fall) or that rises: to fall ever slower is what
    curves do.
    """
    num, rows = points.mask.shape
    level, slope, best = np.full(num, np.nan), np.full(num, np.nan), np.full(num, EVIDENCE)
    length = np.ones(num)
    place = np.arange(rows)
    deviation = np.maximum(noise, LEAST_NOISE)
    for after in range(FEWEST, MOST + 1):
        first = points.count - np.maximum(3 * after, (FARTHEST * points.count).astype(int))
        enough = first >= 0
        if not enough.any():
            break
        use = (points.mask & (place >= first[:, None])).astype(float)
        hinge = points.u[np.arange(num), np.maximum(points.count - after - 1, 0)]
        ends = np.stack(
            [np.ones_like(points.u), points.u, np.maximum(points.u - hinge[:, None], 0)], -1
        )
        weighted = ends * use[..., None]
        square = weighted.transpose(0, 2, 1) @ ends + 1e-9 * np.eye(3)
        inverse = np.linalg.inv(square)
        found = (inverse @ (weighted.transpose(0, 2, 1) @ points.log_loss[..., None]))[..., 0]
        residual = (points.log_loss - (ends @ found[..., None])[..., 0]) * use
        spread = np.sqrt((residual**2).sum(1) / np.maximum(use.sum(1) - 3, 1))
        error = np.maximum(spread, deviation) * np.sqrt(np.maximum(inverse[:, 2, 2], 0))
        end = found[:, 1] + found[:, 2]
        evidence = np.abs(found[:, 2]) / np.maximum(error, 1e-12)
        turned = (found[:, 2] < 0) & (end < 0) | (end > EVIDENCE * error)
        # An end that turns back already, towards a floor, is followed by the laws.
        final = max(1, after // 3)
        tail = np.where(place >= points.count[:, None] - final, residual, 0.0).sum(1) / final
        straight = tail * -np.sign(end) < 2 * np.maximum(spread, deviation) / np.sqrt(final)
        take = enough & turned & straight & (evidence > best)
        best = np.where(take, evidence, best)
        level = np.where(take, found[:, 0] - found[:, 2] * hinge, level)
        slope = np.where(take, end, slope)
        length = np.where(take, -hinge, length)
    return Ends(level, slope, length)
