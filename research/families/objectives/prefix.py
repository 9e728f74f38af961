"""What follows a prefix, all of whose tokens see one another (Liu et al. 2018; Raffel et al. 2020).

A prefix is read both ways, which an encoder would do, by the same stack; what follows is predicted
a token at a time. In training prefixes are of any length, scores are of what follows the first half
of a window, or both are of `prefix_length` where that is given.
"""

from typing import Any

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.objectives import Task, refuse_images
from research.models.attention import Where
from research.parts import layers

KINDS = {"likelihood": "exact"}
UNITS = {"likelihood": "after a prefix"}
WHOLE = True  # a prompt is read at once: its tokens see one another


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(prefix_length=0)  # tokens of every prefix; 0: any number in training


def check(config: ConfigDict) -> None:
    """Raise UserError for images, a prefix that leaves nothing, or a kernel that has no prefix."""
    refuse_images(config)
    model, length = config.model, config.data.length
    if not 0 <= model.prefix_length <= length:
        raise UserError(
            f"config.model.prefix_length={model.prefix_length} must be from 0 to "
            f"config.data.length={length}"
        )
    for layer in layers(model) if "pattern" in model else ():
        if layer.get("attention", "full") != "full":
            raise UserError(
                f"config.model.attention={layer.attention!r} sees a part of what is before it, and "
                "a prefix is seen from everywhere: config.model.objective='prefix' needs 'full'"
            )
    if config.hardware.attention == "splash":
        raise UserError(
            "config.hardware.attention='splash' has no word for a prefix that differs from example "
            "to example, which config.model.objective='prefix' has; use chunked"
        )


def task(config: Any, tokens: jax.Array, where: Where, symbols: int, key: Any) -> Task:
    """After a prefix of 1 to L tokens, all as likely; each prediction weighs 2 L / (L + 1)."""
    length = tokens.shape[1] - 1
    if config.model.prefix_length:
        prefix_B = jnp.full(len(tokens), config.model.prefix_length)
        scale = length / (length + 1 - config.model.prefix_length)
    else:
        prefix_B = jax.random.randint(key, (len(tokens),), 1, length + 1)
        scale = 2 * length / (length + 1)  # (L + 1) / 2 of L are predicted, on average
    return _after(tokens, where, prefix_B, scale)


def scored(config: Any, tokens: jax.Array, where: Where, symbols: int) -> dict[str, Task]:
    """After the first half, or the prefix that all have."""
    prefix = config.model.prefix_length or tokens.shape[1] // 2
    return {"likelihood": _after(tokens, where, jnp.full(len(tokens), prefix), 1.0)}


def _after(tokens: jax.Array, where: Where, prefix_B: jax.Array, scale: float) -> Task:
    """What follows the first `prefix` tokens of each window, that after the last of them first."""
    at = jnp.arange(tokens.shape[1] - 1)
    opened = at < prefix_B[:, None]
    weights = scale * (at >= prefix_B[:, None] - 1)
    where = where._replace(open=opened)
    return Task(tokens[:, :-1], tokens[:, 1:], where, weights)
