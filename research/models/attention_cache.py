"""What attention keeps of the positions it has seen, in arrays of static shape.

A cache has an array [B, N, S, K] a name, and the position of each slot, [B, S], which is negative
where there is none. One that holds everything is written in place; one of a band holds only the
last positions that a later one can see, the oldest first. As int8 it keeps a scale a vector, whose
largest feature is 127 of it: what is read back is at most half of that scale away.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from research import mesh

Cache = dict[str, jax.Array]
FEWEST = 64  # slots below which none are left unread


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


def attended(
    cache: Cache, positions_BxL: jax.Array, new: Cache, attend: Callable[[Cache, jax.Array], Any]
) -> tuple[Any, Cache]:
    """Take the next L positions in, and let them attend.

    Args:
        new: arrays [B, N, L, K] by name.
        attend: of all that those positions may see, themselves included, by name [B, N, S, K], and
            of where it stands, [B, S].

    Returns:
        what `attend` does, and the next cache.
    """
    arrays = {"position": positions_BxL}
    for name, x in new.items():
        arrays |= _narrow(name, x) if f"{name}_scale" in cache else {name: x}
    arrays = {name: x.astype(cache[name].dtype) for name, x in arrays.items()}

    def seen(joined):
        wide = {name: _wide(joined, name, x.dtype) for name, x in new.items()}
        return attend(wide, joined["position"])

    if "used" not in cache:
        joined = {n: jnp.concatenate([cache[n], x], _slots(x)) for n, x in arrays.items()}
        most = cache["position"].shape[1]
        return seen(joined), {name: _part(x, -most, None) for name, x in joined.items()}
    used = cache["used"]
    joined = {
        name: lax.dynamic_update_slice_in_dim(cache[name], x, used, _slots(x))
        for name, x in arrays.items()
    }
    used += positions_BxL.shape[1]
    return _up_to(used, joined, seen), {**joined, "used": used}


def _up_to(used: jax.Array, joined: Cache, seen: Callable[[Cache], Any]) -> Any:
    """`seen` of the first slots: all, or the fewest of a half, a quarter, ... that hold `used`.

    On a CPU, whose time is that of reading; elsewhere a branch may cost more than it saves.
    """
    sizes = [joined["position"].shape[1]]
    while sizes[-1] >= 2 * FEWEST and mesh.on_cpu():
        sizes.append(-(-sizes[-1] // 2))
    branches = [
        lambda joined, size=size: seen({name: _part(x, 0, size) for name, x in joined.items()})
        for size in sizes
    ]
    if len(sizes) == 1:
        return branches[0](joined)
    return lax.switch(sum(used <= size for size in sizes[1:]), branches, joined)


def _slots(x: jax.Array) -> int:
    """The axis of x on which slots are: 1 of [B, S], 2 of [B, N, S, K]."""
    return 1 if x.ndim == 2 else 2


def _part(x: jax.Array, start: int, stop: int | None) -> jax.Array:
    """Slots of x from `start` on, all or up to `stop`."""
    return x[:, start:stop] if x.ndim == 2 else x[:, :, start:stop]


def _narrow(name: str, x: jax.Array) -> Cache:
    """x [..., K] as int8 and a scale."""
    scale = jnp.abs(x).astype(jnp.float32).max(-1, keepdims=True) / 127
    coded = jnp.round(x.astype(jnp.float32) / jnp.maximum(scale, 1e-30)).astype(jnp.int8)
    return {name: coded, f"{name}_scale": scale}


def _wide(cache: Cache, name: str, dtype: Any) -> jax.Array:
    """What is kept under `name` as [..., K] of `dtype`, codes of int8 times their scale."""
    x, scale = cache[name], cache.get(f"{name}_scale")
    return (x if scale is None else x.astype(jnp.float32) * scale).astype(dtype)
