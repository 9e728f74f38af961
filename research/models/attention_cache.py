"""What attention keeps of the positions it has seen, in arrays of static shape.

A cache has an array [B, N, S, K] a name, and the position of each slot, [B, S], which is negative
where there is none. One that holds everything is written in place; one of a band holds only the
last positions that a later one can see, the oldest first. As int8 it keeps a scale a vector, whose
largest feature is 127 of it: what is read back is at most half of that scale away.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from research import mesh

Cache = dict[str, jax.Array]


def empty(
    kept: Mapping[str, tuple[int, int]], batch: int, length: int, back: int | None, dtype: Any
) -> Cache:
    """Room for `length` positions.

    Args:
        kept: {name: (heads, features)} of a position.
        back: how many positions before its own one can see; None for all.
    """
    slots = length if back is None else min(length, max(back, 1))
    cache = {"position": jnp.full((batch, slots), -1, jnp.int32)}
    if slots == length:
        cache["used"] = jnp.int32(0)
    for name, (heads, features) in kept.items():
        cache[name] = jnp.zeros((batch, heads, slots, features), dtype)
        if dtype == jnp.int8:
            cache[f"{name}_scale"] = jnp.zeros((batch, heads, slots, 1), jnp.float32)
    return cache


def join(cache: Cache, positions_BxL: jax.Array, new: Cache) -> tuple[Cache, Cache, jax.Array]:
    """Take the next L positions in.

    Args:
        new: arrays [B, N, L, K] by name.

    Returns:
        the next cache; all that those positions may attend to, themselves included, by name
        [B, N, S, K]; and where it stands, [B, S].
    """
    whole = {name: x.dtype for name, x in new.items()}
    arrays = {"position": positions_BxL}
    for name, x in new.items():
        arrays |= _narrow(name, x) if f"{name}_scale" in cache else {name: x}
    joined, kept = {}, {}
    for name, x in arrays.items():
        axis = 1 if name == "position" else 2
        if "used" in cache:
            joined[name] = kept[name] = _written(cache[name], x, cache["used"], axis)
        else:
            joined[name] = jnp.concatenate([cache[name], x.astype(cache[name].dtype)], axis)
            slots = cache[name].shape[axis]
            kept[name] = lax.slice_in_dim(
                joined[name], joined[name].shape[axis] - slots, None, axis=axis
            )
    if "used" in cache:
        kept["used"] = cache["used"] + positions_BxL.shape[1]
    seen = {
        name: _wide(joined, name, dtype)
        if f"{name}_scale" in joined
        else joined[name].astype(dtype)
        for name, dtype in whole.items()
    }
    return kept, seen, joined["position"]


def _written(old: jax.Array, new: jax.Array, used: jax.Array, axis: int) -> jax.Array:
    """`old` with `new` from `used` on, in place.

    A single example has no axis meanwhile, as products see it on one device: what XLA would reshape
    in between it would write twice, each time into a copy.
    """
    new = new.astype(old.dtype)
    if old.ndim == 4 and len(old) == 1 and mesh.size(*mesh.AXES) == 1:
        return lax.dynamic_update_slice_in_dim(old[0], new[0], used, 1)[None]
    return lax.dynamic_update_slice_in_dim(old, new, used, axis)


def _narrow(name: str, x: jax.Array) -> Cache:
    """x [..., K] as int8 and a scale."""
    scale = jnp.abs(x).astype(jnp.float32).max(-1, keepdims=True) / 127
    coded = jnp.round(x.astype(jnp.float32) / jnp.maximum(scale, 1e-30)).astype(jnp.int8)
    return {name: coded, f"{name}_scale": scale}


def _wide(cache: Cache, name: str, dtype: Any) -> jax.Array:
    return (cache[name].astype(jnp.float32) * cache[f"{name}_scale"]).astype(dtype)
