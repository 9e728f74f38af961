"""Whether single numbers of a latent tell single factors of the data: mutual information gaps.

A factor's gap is how much more the number that tells most of it tells than the next one does, as a
share of the factor's entropy (Chen et al. 2018, equation 6): 1 where one number tells all of it and
the others nothing, 0 where two tell the same. Of a latent the posterior's mean is seen, its
numbers in BINS bins of equal width each. Counts of few images make a little information out of
nothing, in all numbers alike. What is known of an image's class the source says, by `factors(data)
-> {name: value for each class}`.
"""

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from research import data, families
from research.data import sources
from research.errors import UserError

BINS = 20


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for a family without latents, or data of which no factor is known."""
    del spec
    where = "config.evaluation.evaluators: 'disentanglement'"
    if not hasattr(families.load(config.family), "encode"):
        raise UserError(
            f"{where} reads latents, and config.family={config.family!r} has none; nearest valid: "
            "'autoencoder'"
        )
    if not hasattr(sources.load(config.data.name), "factors"):
        raise UserError(
            f"{where} asks for factors, and config.data.name={config.data.name!r} knows none of "
            "its images; nearest valid: 'glyphs'"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """The mean of the gaps, and each factor's."""
    about = {"unit": "of the entropy", "kind": "estimate", "better": "higher"}
    known = sources.load(config.data.name).factors(config.data)
    return {name: about for name in ("information_gap", *(f"{each}_gap" for each in known))}


def measure(config: Any, params: Any) -> dict[str, float]:
    """The gaps over `evaluation.examples` validation images; 0 of a factor that has one value."""
    family, settings = families.load(config.family), config.evaluation
    encode = jax.jit(lambda *given: family.encode(config, params, given[0], None, *given[1:]))
    source, latents, labels = data.load(config.data, "validation"), [], []
    for batch in data.eval_batches(source, settings.batch_size, settings.examples):
        rows, told = batch["mask"] > 0, config.model.get("num_classes", 0) > 0
        given = (batch["image"], batch["label"]) if told else (batch["image"],)
        latents.append(np.asarray(encode(*given))[rows].reshape(rows.sum(), -1))
        labels.append(batch["label"][rows])
    latent_NxD, label_N = np.concatenate(latents), np.concatenate(labels)
    known = sources.load(config.data.name).factors(config.data)
    found = {f"{name}_gap": gap(latent_NxD, each[label_N]) for name, each in known.items()}
    return {"information_gap": float(np.mean([*found.values()]))} | found


def gap(latent_NxD: NDArray[Any], factor_N: NDArray[Any]) -> float:
    """The mutual information gap of one factor, of latents of at least two numbers."""
    entropy = _entropy(factor_N)
    if entropy == 0 or latent_NxD.shape[1] < 2:
        return 0.0
    told_D = np.sort([information(each, factor_N) for each in latent_NxD.T])
    return float(told_D[-1] - told_D[-2]) / entropy


def information(number_N: NDArray[Any], factor_N: NDArray[Any]) -> float:
    """Mutual information of a number, in bins, and a factor, nats."""
    low, high = number_N.min(), number_N.max()
    share = (number_N - low) / (high - low) if high > low else np.zeros(len(number_N))
    bin_N = np.minimum((BINS * share).astype(int), BINS - 1)
    joint_N = bin_N * (int(factor_N.max()) + 1) + factor_N
    return _entropy(bin_N) + _entropy(factor_N) - _entropy(joint_N)


def _entropy(value_N: NDArray[Any]) -> float:
    """The entropy of how often each value is there, nats."""
    share = np.unique(value_N, return_counts=True)[1] / len(value_N)
    return float(-(share * np.log(share)).sum())
