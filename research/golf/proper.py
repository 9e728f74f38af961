"""Whether what was trained predicts: gives each next byte a probability, and none by hindsight."""

from pathlib import Path

import jax
import numpy as np
from jax import numpy as jnp

from research import data, families, trained
from research.errors import UserError

TEXTS = 8  # of validation, spread over it, at a position each
TOLERANCE = 1e-3  # of a sum of probabilities in float32


def check(folder: Path) -> None:
    """Hold a trained run of the family autoregressive to an identity of every distribution.

    For any text before a position and any text after it, sum_v p(v | before) = 1, where the text
    that is scored has v at the position. A network that sees ahead knows which v it is asked for,
    and a head that is no distribution sums to anything: both break it. Positions are drawn by the
    run's seed, so the seeds of a recipe are asked at others.

    Raises:
        UserError: when the sum is another at some position of a text of validation.
    """
    config, params = trained.load(folder)
    module, vocabulary = families.load(config.family), config.model.vocab_size
    nats = jax.jit(lambda params, tokens: module.cross_entropy(config, params, tokens)[0])
    draw = np.random.default_rng(config.seed)
    for text in next(data.eval_batches(data.load(config.data, "validation"), TEXTS, TEXTS))[
        "tokens"
    ]:
        position = int(draw.integers(1, config.data.length, endpoint=True))
        tokens = draw.permuted(np.tile(text, (vocabulary, 1)), axis=1)
        tokens[:, :position] = text[:position]
        tokens[:, position] = draw.permutation(vocabulary)
        logs = nats(params, jnp.asarray(tokens))[:, position - 1]
        total = float(np.exp(-np.asarray(logs, np.float64)).sum())
        if not abs(total - 1) < TOLERANCE:
            raise UserError(
                f"{folder}: probabilities of what follows {position} bytes sum to {total:.4g}, not "
                "1: the network sees what it is to predict, or its head is no distribution"
            )
