"""Spikes of learning curves: points that leave the curve for a while and come back to it."""

import numpy as np

WIDEST = 5  # points of one spike, and no more than an eighth of the curve
THRESHOLD = 5.0  # deviations of the noise, and more where few points tell it
FEWEST = 10  # points of a curve
LEAST_NOISE = 1e-3  # of log y: below, every rounding would be a spike
MOST = 0.25  # of a curve's points: more of them are its noise
PASSES = 2


def find_spikes(u: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Mask [points] of a curve's spikes, from increasing `u` = log x and `value` = log y.

    A spike is a short run of points above the chord between the two points beside it, and above the
    lines that the curve follows before and behind: a step to a new level (a drop of the learning
    rate) or a bend is none, and neither is a last point, from which nothing has recovered yet.
    Dips that recover count as well. Short runs go first, and spikes before dips: what lies between
    two spikes is no dip, nor a spike between two dips.
    """
    spikes = np.zeros(len(u), bool)
    if len(u) < FEWEST:
        return spikes
    for width in range(1, min(WIDEST, max(1, len(u) // 8)) + 1):
        for sign in (1.0, -1.0) * PASSES:
            kept = np.flatnonzero(~spikes)
            if len(kept) < FEWEST:
                break
            spikes[kept[_runs(u[kept], sign * value[kept], width)]] = True
    return spikes if spikes.sum() <= MOST * len(u) else np.zeros(len(u), bool)


def ends_in_jump(u: np.ndarray, value: np.ndarray) -> bool:
    """Whether the last one or two points lie above where the curve led: perhaps a spike."""
    if len(u) < FEWEST:
        return False
    threshold = _threshold(u, value)
    for width in (1, 2):
        before = -width - 1
        slope = (value[before] - value[before - 1]) / (u[before] - u[before - 1])
        onward = value[before] + np.maximum(slope, 0) * (u[before + 1 :] - u[before])
        if (value[before + 1 :] - onward > threshold).all():
            return True
    return False


def _threshold(u: np.ndarray, value: np.ndarray) -> float:
    """Height above which a point is no noise, by how far points lie off the chord beside them."""
    share = (u[2:] - u[1:-1]) / (u[2:] - u[:-2])
    gap = value[1:-1] - share * value[:-2] - (1 - share) * value[2:]
    noise = np.median(np.abs(gap)) / 0.6745 / np.sqrt(1.5)
    return THRESHOLD * (1 + THRESHOLD / len(u)) * max(noise, LEAST_NOISE)


def _runs(u: np.ndarray, value: np.ndarray, width: int) -> np.ndarray:
    """Mask [points] of the runs of `width` points that lie above what is around them."""
    num = len(u)
    # Slopes by which a curve comes to a point, and goes on from it; none at its ends.
    slope = np.diff(value) / np.diff(u)
    before, after = np.append(0.0, slope), np.append(slope, 0.0)
    left = np.arange(num - width - 1)
    right = left + width + 1
    chord = (value[right] - value[left]) / (u[right] - u[left])
    above = np.full(len(left), np.inf)
    for at in (left + step for step in range(1, width + 1)):
        onward = value[left] + before[left] * (u[at] - u[left])
        back = value[right] + after[right] * (u[at] - u[right])
        straight = value[left] + chord * (u[at] - u[left])
        around = np.maximum(np.maximum(onward, back), straight)
        above = np.minimum(above, value[at] - around)
    found = np.zeros(num, bool)
    for start in left[above > _threshold(u, value)]:
        found[start + 1 : start + width + 1] = True
    return found
