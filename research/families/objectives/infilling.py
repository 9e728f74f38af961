"""Fill in the middle, by a text whose parts are put in another order (Bavarian et al. 2022).

A window is cut in three at two places, and becomes <prefix> p <suffix> s <middle> m, of which every
token is predicted: the same stack learns what may stand between two parts. `infilling_rate` of the
windows are so, the others as they are. Scores are the likelihood from left to right, and that of a
middle given both sides.
"""

from typing import Any

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError
from research.families.objectives import Task, next_token, refuse_images
from research.models.attention import Where

EXTRA = 3  # tokens that say what begins: prefix, suffix, middle
KINDS = {"likelihood": "exact", "middle": "exact"}
UNITS = {"middle": "of a middle"}


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(infilling_rate=0.5)  # of the windows


def check(config: ConfigDict) -> None:
    """Raise UserError for images, a rate that is none, or windows too short to cut."""
    refuse_images(config)
    rate = config.model.infilling_rate
    if not 0 < rate <= 1:
        raise UserError(f"config.model.infilling_rate={rate} must be above 0 and at most 1")
    if config.data.length < 6:
        raise UserError(
            f"config.data.length={config.data.length} must be at least 6 for a window to be cut in "
            "three parts"
        )


def task(config: Any, tokens: jax.Array, where: Where, symbols: int, key: Any) -> Task:
    """Some windows in another order, cut at two places that are uniform."""
    chosen, cut = jax.random.split(key)
    batch, kept = len(tokens), tokens.shape[1] - EXTRA
    cuts_Bx2 = jnp.sort(jax.random.randint(cut, (batch, 2), 1, kept), 1)
    turned = _turned(tokens, where, symbols, cuts_Bx2)
    plain = next_token.task(config, tokens, where, symbols, None)
    which_Bx1 = jax.random.uniform(chosen, (batch, 1)) < config.model.infilling_rate
    in_order = jnp.arange(1, tokens.shape[1])
    return Task(
        jnp.where(which_Bx1, turned.read_BxL, plain.read_BxL),
        jnp.where(which_Bx1, turned.targets_BxL, plain.targets_BxL),
        where,
        None,
        jnp.where(which_Bx1, turned.origin_BxL, in_order),
    )


def scored(config: Any, tokens: jax.Array, where: Where, symbols: int) -> dict[str, Task]:
    """From left to right; and the middle third of a window given the two others."""
    kept = tokens.shape[1] - EXTRA
    first, last = kept // 3, kept - kept // 3
    cuts_Bx2 = jnp.broadcast_to(jnp.array([first, last]), (len(tokens), 2))
    turned = _turned(tokens, where, symbols, cuts_Bx2)
    middle = (turned.origin_BxL > first) & (turned.origin_BxL <= last)
    plain = next_token.task(config, tokens, where, symbols, None)
    return {"likelihood": plain, "middle": turned._replace(weights_BxL=1.0 * middle)}


def _turned(tokens: jax.Array, where: Where, symbols: int, cuts_Bx2: jax.Array) -> Task:
    """<prefix> p <suffix> s <middle> m of each window's predicted tokens, but for the last two.

    Raises:
        UserError: for windows of several texts, whose parts would be of one.
    """
    if where.segments is not None:
        raise UserError(
            "config.model.objective='infilling' cuts windows, which must be of one text each: set "
            "config.model.documents_apart=False"
        )
    kept = tokens.shape[1] - EXTRA
    at = jnp.arange(tokens.shape[1])
    first_Bx1, last_Bx1 = cuts_Bx2[:, :1], cuts_Bx2[:, 1:]
    after_Bx1 = kept - last_Bx1  # tokens of the suffix
    suffix_Bx1, middle_Bx1 = first_Bx1 + 1, first_Bx1 + after_Bx1 + 2  # where those two stand
    origin = jnp.where(
        at < suffix_Bx1,
        at - 1,
        jnp.where(at < middle_Bx1, at - suffix_Bx1 - 1 + last_Bx1, at - middle_Bx1 - 1 + first_Bx1),
    )
    origin += 1  # the first token of a window is only read elsewhere
    own = (at == 0) | (at == suffix_Bx1) | (at == middle_Bx1)
    which = symbols + 1 * (at == suffix_Bx1) + 2 * (at == middle_Bx1)
    origin = jnp.where(own, -1, origin)
    texts = jnp.take_along_axis(tokens, jnp.maximum(origin, 0), 1)
    turned = jnp.where(own, which, texts).astype(jnp.int32)
    return Task(turned[:, :-1], turned[:, 1:], where, None, origin[:, 1:])
