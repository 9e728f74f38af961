"""Adaptive augmentation: what is judged is changed, data and drawn images alike, with some chance.

As long as the chance is below one, images that are right are the only ones whose changed images
are those of the data, so that the changes do not leak into what is drawn (Karras et al. 2020,
arXiv 2006.06676, section 2). The chance rises while the logits of data are above zero more often
than the target says, a sign that the discriminator knows the data by heart, and falls else (their
section 3). Gradients pass through all of it.
"""

import jax
from jax import Array
from jax import numpy as jnp

SHIFT, BRIGHTER, CUT = 0.125, 0.2, 0.5  # of a side; deviation, of a range of 2; of a side


def augmented(x_BxHxWxC: Array, chance: Array, key: Array) -> Array:
    """Images of which each change is made to each with this chance."""
    rows = len(x_BxHxWxC)
    for index, change in enumerate((_mirrored, _shifted, _brighter, _cut)):
        own, taken = jax.random.split(jax.random.fold_in(key, index))
        changed = jax.vmap(change)(x_BxHxWxC, jax.random.split(own, rows))
        taken = jax.random.uniform(taken, (rows, 1, 1, 1)) < chance
        x_BxHxWxC = jnp.where(taken, changed, x_BxHxWxC)
    return x_BxHxWxC


def _mirrored(x_HxWxC: Array, key: Array) -> Array:
    """Left and right exchanged in half of them, lest all be mirrored where the chance is one."""
    return jnp.where(jax.random.bernoulli(key), x_HxWxC[:, ::-1], x_HxWxC)


def _shifted(x_HxWxC: Array, key: Array) -> Array:
    """By up to SHIFT of the sides, around the border."""
    height, across, _ = x_HxWxC.shape
    most = jnp.array([max(1, round(SHIFT * height)), max(1, round(SHIFT * across))])
    by = jax.random.randint(key, (2,), -most, most + 1)
    return jnp.roll(x_HxWxC, by, (0, 1))


def _brighter(x_HxWxC: Array, key: Array) -> Array:
    """Or darker, all of it."""
    return x_HxWxC + BRIGHTER * jax.random.normal(key)


def _cut(x_HxWxC: Array, key: Array) -> Array:
    """A rectangle of CUT of the sides is grey."""
    height, across, _ = x_HxWxC.shape
    middle = jax.random.uniform(key, (2,)) * jnp.array([height, across])
    row, column = jnp.arange(height)[:, None] + 0.5, jnp.arange(across) + 0.5
    inside = (abs(row - middle[0]) < CUT * height / 2) & (
        abs(column - middle[1]) < CUT * across / 2
    )
    return jnp.where(inside[:, :, None], 0.0, x_HxWxC)
