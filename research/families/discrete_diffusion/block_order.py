"""Blocks that come to be one after another, each by diffusion (Arriola 2025, BD3-LM).

A draft of a block sees itself and, settled, all blocks before it. To train all blocks at once the
text is read twice, <first> drafts, texts: a draft of block b sees the texts of blocks before b and
itself, a text sees texts up to its own block's end, and nothing of a draft. To draw, it is read
once, for a draft then is the last there is. Blocks of one token are autoregression, one block is
masked diffusion.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research import mesh
from research.models.attention import IN_ORDER, Where


def count(model: Any, length: int) -> int:
    """How many blocks a text of so many tokens has."""
    return length // (model.block_size or length)


def read(
    model: Any, first_B: jax.Array, draft_BxL: jax.Array, text_BxL: jax.Array | None = None
) -> tuple[jax.Array, Where, np.ndarray]:
    """What the network reads, [B, S], where it stands, and at which of S each token is predicted.

    Args:
        first_B: what stands before all tokens.
        text_BxL: the text of which there is a draft; None to draw one, block after block.
    """
    first_Bx1, length = first_B[:, None], draft_BxL.shape[1]
    at = np.arange(1, length + 1)
    if not model.block_size:
        tokens_BxS = jnp.concatenate([first_Bx1, draft_BxL], 1)
        return tokens_BxS, IN_ORDER, at - 1 if model.shifted else at
    block = (at - 1) // model.block_size
    if text_BxL is None:
        tokens_BxS = jnp.concatenate([first_Bx1, draft_BxL], 1)
        order, before = np.append(1, 2 * block + 3), np.arange(-1, length)
        positions = np.arange(length + 1)
    else:
        tokens_BxS = jnp.concatenate([first_Bx1, draft_BxL, text_BxL], 1)
        # Of a block's first token that before it is a text, or what stands first of all.
        begins = (at - 1) % model.block_size == 0
        settled = np.where(at == 1, 0, length + at - 1)
        order = np.concatenate([[1], 2 * block + 2, 2 * block + 3])
        before = np.concatenate([[-1], np.where(begins, settled, at - 1), settled])
        positions = np.concatenate([[0], at, at])
    predicted = before[1 : length + 1] if model.shifted else at
    return tokens_BxS, _where(len(first_B), positions, order, before), predicted


def _where(batch: int, positions: np.ndarray, order: np.ndarray, before: np.ndarray) -> Where:
    """Of every example alike; a pipeline cuts what it is given by examples."""
    shape = (batch, len(order)) if mesh.size("stage") > 1 else (len(order),)
    positions_S, order_S = (jnp.broadcast_to(jnp.asarray(x), shape) for x in (positions, order))
    return Where(positions_S, order=order_S, before=jnp.maximum(before, 0))
