"""The Inception score of drawn images, by the classes of our own classifier (Salimans 2016).

It is exp of the mean over images of KL(p(class | image), p(class)), where p(class) is the mean over
all of them: 1 where every image looks alike to the classifier, and the number of classes where it
is sure of each image and all classes are as many. Beside it is what held-out images have.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError
from research.evaluation import image_features, image_samples, intervals
from research.evaluation.intervals import Estimate

GROUPS = 20


def check(config: Any, spec: dict[str, Any]) -> None:
    if image_samples.check(config, spec, "inception_score").probabilities is None:
        raise UserError(
            f"config.evaluation.features={config.evaluation.features!r} know no classes, by which "
            "'inception_score' goes; name 'glyphs' or a run of family classifier"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": "classes", "kind": "estimate", "better": "higher"}
    return {"inception_score": kind, "inception_score_held_out": kind}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    features = image_features.load(config.evaluation.features)
    assert features.probabilities is not None
    signature = image_samples.signature(config, image_samples.reference(config), features)
    found = {"": image_samples.drawn(config, params), "_held_out": image_samples.held_out(config)}
    return {
        f"inception_score{end}": inception_score(features.probabilities(images))._replace(
            signature=signature
        )
        for end, images in found.items()
    }


def inception_score(probabilities: NDArray) -> Estimate:
    """Of probabilities [n, classes], with a standard error by the jackknife over groups.

    Raises:
        UserError: when they are not finite, or those of an image do not sum to 1.
    """
    p = image_features.finite(probabilities, "images")
    if (p < 0).any() or np.abs(p.sum(1) - 1).max() > 1e-3:
        raise UserError(
            "probabilities of classes must not be negative, and sum to 1 for each image"
        )
    if len(p) < GROUPS:
        raise UserError(f"{len(p)} images are too few for a standard error; at least {GROUPS}")
    groups = np.random.default_rng(0).permutation(len(p)) % GROUPS
    error = intervals.jackknife(lambda group: _score(p[groups != group]), GROUPS)
    return intervals.around(_score(p), error, len(p))


def _score(p: NDArray[np.float64]) -> float:
    """exp(H(mean) - mean H), which is the exp of the mean divergence."""
    mean = p.mean(0)
    return float(np.exp(_entropy(mean[None])[0] - _entropy(p).mean()))


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)
