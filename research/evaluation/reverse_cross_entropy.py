"""What samples of a run cost under the true distribution, where the source of the data knows it.

It is E[-log2 p(x)] over x that the model draws: a true number for models without a likelihood. A
model that is right has the entropy of the data, `reverse_floor`; one that draws what is unlikely
lies above it, and one that draws only what is likeliest below, so that it says nothing without the
floor. Samples of probability zero have a share of their own, and the mean is over the others.
Texts are taken after their first token, which is given; their floor is the mean over held-out
windows of the same length that begin with such a token.
"""

import math
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from research import data, families
from research.data import sources, truth
from research.errors import UserError
from research.evaluation import image_samples, intervals
from research.evaluation.intervals import Estimate

NAME = "reverse_cross_entropy"
SAMPLES = 256  # texts of config.data.length tokens; images are drawn by the recipe


def check(config: Any, spec: dict[str, Any]) -> None:
    where = f"config.evaluation.evaluators: {NAME!r}"
    truth.known(config.data, where)
    if "shape" in spec:
        image_samples.check_drawn(config, NAME)
        return
    image_samples.check_samples(config, NAME)
    if config.data.length < 2:
        raise UserError(f"{where}: data.length is {config.data.length}; it must be at least 2")


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    unit = "bits/dim" if "shape" in data.outline(config.data) else "bits/token"
    kind = {"unit": unit, "kind": "estimate", "better": "lower"}
    return {NAME: kind, "reverse_floor": kind, "impossible": {**kind, "unit": "share of samples"}}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    held = data.load(config.data, "validation")
    if "shape" in held.spec:
        drawn, about = image_samples.drawn(config, params), held.floor or {}
        # Where it is exact it has no interval; the standard error is of a mean beside it.
        error = 0.0 if about.get("kind") == "exact" else about.get("standard_error", math.nan)
        floor = intervals.around(about.get("value", math.nan), error, len(held))
    else:
        count = min(config.evaluation.examples or SAMPLES, SAMPLES)
        sample = families.load(config.family).sample
        drawn = np.asarray(sample(config, params, jax.random.key(0), count))
        real = held.gather(np.arange(len(held)))["tokens"][:, : drawn.shape[1]]
        floor = mean(bits(config.data, real[np.isin(real[:, 0], drawn[:, 0])]))
    each = bits(config.data, drawn)
    possible = np.isfinite(each)
    return {
        NAME: mean(each[possible]),
        "reverse_floor": floor,
        "impossible": intervals.share((~possible).sum(), len(each)),
    }


def bits(settings: Any, samples: NDArray[Any]) -> NDArray[np.float64]:
    """-log2 p [N] of images a dimension, or of tokens [N, T] a token after the first."""
    amount = samples.shape[1] - 1 if samples.ndim == 2 else math.prod(samples.shape[1:])
    nats = sources.load(settings["name"]).log_probability(settings, samples)
    return -nats / (math.log(2) * amount)


def mean(each: NDArray[np.float64]) -> Estimate:
    """The mean of bits [N] with its interval; NaN of none."""
    return intervals.bootstrap(each) if len(each) else Estimate(math.nan, (math.nan, math.nan), 0)
