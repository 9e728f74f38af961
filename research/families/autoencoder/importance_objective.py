"""The importance-weighted bound (Burda et al. 2016, equation 8): tighter the more samples it has.

    -log p(x) <= -E log mean_k p(x, z_k) / q(z_k | x),  z_k from q(z | x)

With one sample it is the variational bound, whose divergence it takes by that sample.
"""

from typing import Any

from jax import Array
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.autoencoder import coding
from research.families.autoencoder.coded import Coded


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(importance_samples=8)


def check(config: ConfigDict) -> None:
    """Raise UserError for no samples, codes, or a latent that costs other than it does."""
    model = config.model
    if model.importance_samples < 1:
        raise UserError(
            f"config.model.importance_samples={model.importance_samples} must be at least 1"
        )
    if coding.symbols(config):
        raise UserError(
            "config.model.objective='importance' draws from a posterior, and config.model."
            f"bottleneck={model.bottleneck!r} has one code for each place; nearest valid: 'kl'"
        )
    if model.kl_weight != 1:
        raise UserError(
            f"config.model.kl_weight={model.kl_weight} must be 1.0 for config.model.objective="
            "'importance', which weighs samples by the true densities"
        )


def value(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, Coded, dict[str, Array]]:
    """The objective in nats of an image; of the first samples what `coding.judged` gives."""
    del step
    samples = config.model.importance_samples
    weights_KxB, coded, judged = coding.weighed(config, params, batch, key, samples)
    return -coding.averaged(weights_KxB).mean(), coded, judged
