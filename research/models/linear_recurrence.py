"""Linear recurrences of a matrix, in chunks of positions that are matrix products inside.

Each head keeps a matrix S of what it has read, which decays by a number a_t at each position:

    S_t = a_t S_{t-1} + k_t u_t^T,  o_t = S_t^T q_t

A gated linear attention (Yang et al. 2023; the state-space dual of Dao & Gu 2024, arXiv 2405.21060)
writes u_t = v_t. The gated delta rule (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464, section 3;
their S is transposed) writes u_t = b_t (v_t - a_t S_{t-1}^T k_t): of the value only what the memory
does not give for the key already, at a strength b_t.

A chunk of one position is the plain recurrence, one position after another. In longer ones the
positions of a chunk see each other by a masked product, as in attention, and the earlier ones by
the state before the chunk, so that only chunks follow one another. What the delta rule writes in a
chunk solves a triangular system (the UT transform of Yang et al. 2024, arXiv 2406.06484).

Everything here is in float32: a state adds up all that was ever written.
"""

import functools
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research.errors import UserError

BASE = 8  # rows of a triangular matrix that are solved one by one


def check_chunk(config: ConfigDict) -> None:
    """Raise UserError for a `config.model.chunk` that is no power of two."""
    chunk = config.model.chunk
    if chunk < 1 or chunk & (chunk - 1):
        below = 1 << (max(chunk, 1).bit_length() - 1)
        near = min((below, 2 * below), key=lambda power: abs(power - chunk))
        raise UserError(
            f"config.model.chunk={chunk} must be a power of two, 1 for one position after "
            f"another; nearest valid: {near}"
        )


@jax.named_scope("recurrence")
def recur(
    q_BxNxLxK: jax.Array,
    k_BxNxLxK: jax.Array,
    v_BxNxLxU: jax.Array,
    log_decay_BxNxL: jax.Array,
    strength_BxNxL: jax.Array | None = None,
    runs_BxL: jax.Array | None = None,
    state_BxNxKxU: jax.Array | None = None,
    chunk: int = 32,
) -> tuple[jax.Array, jax.Array]:
    """What every position reads, o [B, N, L, U], and the state after the last one, [B, N, K, U].

    Args:
        q_BxNxLxK, k_BxNxLxK: of each head, or [B, 1, L, K] for all of them.
        log_decay_BxNxL: logs of a_t, at most 0.
        strength_BxNxL: b_t of the delta rule; None writes the values as they are.
        runs_BxL: a number that grows where a text begins whose state is a new one; None: nowhere.
        state_BxNxKxU: before the first position; None is zero. With `runs_BxL` it is of run 0.
        chunk: positions of a chunk, a power of two.
    """
    (batch, heads, length, _), features = v_BxNxLxU.shape, k_BxNxLxK.shape[-1]
    chunk = min(chunk, 1 << (length - 1).bit_length())
    cut = functools.partial(_in_chunks, chunk)
    q, k, v = (cut(x.astype(jnp.float32)) for x in (q_BxNxLxK, k_BxNxLxK, v_BxNxLxU))
    total_BxNxZxQ = jnp.cumsum(cut(log_decay_BxNxL.astype(jnp.float32)), -1)
    between = total_BxNxZxQ[..., :, None] - total_BxNxZxQ[..., None, :]
    seen = jnp.tri(chunk, dtype=bool)
    before_BxNxZxQ = jnp.exp(total_BxNxZxQ)  # what is left there of the state before the chunk
    if runs_BxL is not None:
        runs = cut(runs_BxL, 1, "edge")[:, None]
        seen = seen & (runs[..., :, None] == runs[..., None, :])
        last = jnp.concatenate([jnp.zeros_like(runs[:, :, :1, -1]), runs[:, :, :-1, -1]], 2)
        before_BxNxZxQ = jnp.where(runs == last[..., None], before_BxNxZxQ, 0.0)
    left_BxNxZxQxQ = jnp.exp(jnp.where(seen, between, -jnp.inf))  # of what each wrote, at each

    written, known = v, None
    if strength_BxNxL is not None:
        b = cut(strength_BxNxL.astype(jnp.float32))[..., None]
        solve = unit_lower_inverse(jnp.tril(b * left_BxNxZxQxQ * (k @ k.mT), -1))
        written, known = solve @ (b * v), solve @ (b * before_BxNxZxQ[..., None] * k)

    def follow(state: jax.Array, here: tuple) -> tuple[jax.Array, tuple]:
        k, u, known, through, kept = here
        u = u if known is None else u - known @ state
        return through * state + k.mT @ (kept * u), (state, u)

    if state_BxNxKxU is None:
        state_BxNxKxU = jnp.zeros((batch, heads, features, v.shape[-1]), jnp.float32)
    through = before_BxNxZxQ[..., -1:, None]
    chunks = (k, written, known, through, left_BxNxZxQxQ[..., -1, :, None])
    chunks = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), chunks)
    state_BxNxKxU, found = lax.scan(follow, state_BxNxKxU.astype(jnp.float32), chunks)
    states, u = (jnp.moveaxis(x, 0, 2) for x in found)
    o = before_BxNxZxQ[..., None] * (q @ states) + (left_BxNxZxQxQ * (q @ k.mT)) @ u
    return o.reshape(batch, heads, -1, v.shape[-1])[:, :, :length], state_BxNxKxU


def _in_chunks(chunk: int, x: jax.Array, axis: int = 2, mode: str = "constant") -> jax.Array:
    """The `axis` of positions as [Z, Q], filled up: what writes nothing changes no state."""
    missing = -x.shape[axis] % chunk
    pad = [(0, missing if each == axis else 0) for each in range(x.ndim)]
    x = jnp.pad(x, pad, mode=mode) if missing else x
    return x.reshape(*x.shape[:axis], -1, chunk, *x.shape[axis + 1 :])


@jax.custom_vjp
def unit_lower_inverse(a: jax.Array) -> jax.Array:
    """(I + a)^-1 of strictly lower triangular a [..., Q, Q]; Q is a power of two.

    Blocks on the diagonal are solved row by row, and pairs of them joined by two products,

        [[X, 0], [C, Y]]^-1 = [[X^-1, 0], [-Y^-1 C X^-1, Y^-1]].

    Powers of a would be fewer products, and cancel to nothing where keys are alike.
    """
    size, batch = a.shape[-1], a.shape[:-2]
    base = min(BASE, size)
    eye = jnp.eye(base, dtype=a.dtype)
    block, rows = _on_diagonal(a.reshape(*batch, -1, base, size // base, base)), []
    for row in range(base):
        known = sum((block[..., row, i, None] * rows[i] for i in range(row)), jnp.zeros(()))
        rows.append(jnp.broadcast_to(eye[row] - known, block[..., row, :].shape))
    x = jnp.stack(rows, -2)
    while (half := x.shape[-1]) < size:
        pairs = size // (2 * half)
        corner = a.reshape(*batch, pairs, 2, half, pairs, 2, half)[..., 1, :, :, 0, :]
        x = x.reshape(*batch, pairs, 2, half, half)
        first, second = x[..., 0, :, :], x[..., 1, :, :]
        below = -(second @ _on_diagonal(corner) @ first)
        upper = jnp.concatenate([first, jnp.zeros_like(first)], -1)
        x = jnp.concatenate([upper, jnp.concatenate([below, second], -1)], -2)
    return x[..., 0, :, :]


def _on_diagonal(blocks: jax.Array) -> jax.Array:
    """Blocks [..., n, rows, n, columns] on the diagonal of a matrix of them: [..., n, ., .]."""
    return jnp.moveaxis(jnp.diagonal(blocks, axis1=-4, axis2=-2), -1, -3)


def _inverse_forward(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse: Any = unit_lower_inverse(a)
    return inverse, inverse


def _inverse_backward(inverse: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    return (-jnp.tril(inverse.mT @ g @ inverse.mT, -1),)


unit_lower_inverse.defvjp(_inverse_forward, _inverse_backward)
