"""How many modes of a known mixture a model draws, and how evenly.

A drawn point counts for its nearest mode where it lies within four deviations of it; a mode is
covered that one counts for, and quality is the share of points that count (Srivastava et al.
2017). The divergence is KL(share of the points that count by mode || uniform) in bits: that
of points of one mode alone where none counts. Beside each is what as many held-out points have:
few points do not meet every mode of many. Of the modes that these are nearest to, those are lost
that no drawn point is nearest to, however far it lies: a blurred model loses none of them, and one
that has collapsed loses most.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import sources
from research.errors import UserError
from research.evaluation import image_samples, intervals
from research.evaluation.intervals import Estimate
from research.failures import Limit


def check(config: Any, spec: dict[str, Any]) -> None:
    if not hasattr(sources.load(config.data.name), "nearest_modes"):
        raise UserError(
            "config.evaluation.evaluators: 'mode_coverage' counts modes that are known; "
            f"config.data.name={config.data.name!r} has none; nearest valid: 'modes'"
        )
    image_samples.check_drawn(config, "mode_coverage")


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kinds = {
        "modes_covered": {"unit": "modes", "kind": "estimate", "better": "higher"},
        "mode_quality": {"unit": "share of points", "kind": "estimate", "better": "higher"},
        "mode_divergence": {"unit": "bits", "kind": "estimate", "better": "lower"},
    }
    found = {f"{name}{end}": kinds[name] for end in ("", "_held_out") for name in kinds}
    return found | {"modes_lost": {"unit": "share of modes", "kind": "estimate", "better": "lower"}}


def limits(config: Any) -> dict[str, Limit]:
    """A model that has lost most modes has collapsed."""
    return {"mode_collapse": Limit("modes_lost", "most modes are never drawn", high=0.5)}


def measure(config: Any, params: Any) -> dict[str, float | Estimate]:
    source, found, reached = sources.load(config.data.name), {}, []
    points = (image_samples.drawn(config, params), image_samples.held_out(config))
    for end, images in zip(("", "_held_out"), points, strict=True):
        which, near = source.nearest_modes(config.data, images)
        values = coverage(which, near, len(source.centres(config.data)))
        found |= {f"{name}{end}": value for name, value in values.items()}
        reached.append(np.unique(which))
    return found | {"modes_lost": len(np.setdiff1d(reached[1], reached[0])) / len(reached[1])}


def coverage(
    which: NDArray[np.integer], near: NDArray[np.bool_], modes: int
) -> dict[str, float | Estimate]:
    """The three scores of points whose nearest of `modes` modes and nearness are given, [n]."""
    counts = np.bincount(which[near], minlength=modes)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    entropy = float(-(shares * np.log2(shares)).sum())
    return {
        "modes_covered": float(len(shares)),
        "mode_quality": intervals.share(near.sum(), len(near)),
        "mode_divergence": float(np.log2(modes)) - entropy,
    }
