"""Layers over pipeline stages, in a circular schedule (Narayanan et al. 2021, section 2.2).

Layer l belongs to stage l mod stages: a micro-batch goes round the stages once for every layer
that a stage has, so the idle share is (stages - 1) / (microbatches * layers a stage + stages - 1).
All stages are one program, a `vmap` over the mesh axis "stage"; what one stage has made moves to
the next by a roll, which is a permutation of neighbours.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import numpy as jnp
from jax.sharding import PartitionSpec

from research import mesh
from research.mesh import constrain


def _on_stages(x: jax.Array, axis: int) -> jax.Array:
    """Split `axis` over the stages and leave the other axes as they are."""
    if mesh.size("stage") == 1:
        return x
    free = PartitionSpec.UNCONSTRAINED
    axes = ["stage" if each == axis else free for each in range(x.ndim)]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def run(
    block: Callable, layers: Any, x: jax.Array, given: Any, stages: int, microbatches: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return `block` applied layer after layer, and the sums over layers of what it measures.

    Args:
        block: (layer, x, given) -> (x, measures), measures being means over the batch.
        layers: tree of parameters [depth, ...]; `stages` divides depth.
        x: [B, L, D]; `microbatches`, at least `stages`, divides B.
        given: tree of what else each layer reads, arrays [B, ...]: a condition, positions.
    """
    depth = jax.tree.leaves(layers)[0].shape[0]
    turns = depth // stages * microbatches  # of a stage: its layers, each over every micro-batch
    # At rest a stage holds neighbouring layers, whatever the number of stages; here it gets its
    # own, which moves a device's share of the parameters once a step.
    layers = jax.tree.map(
        lambda w: _on_stages(w.reshape(depth // stages, stages, *w.shape[1:]), 1), layers
    )

    everything = jax.tree.map(lambda a: mesh.strided(a, microbatches), given)
    stage = jnp.arange(stages)
    first = (stage == 0).reshape(-1, *(1,) * x.ndim)

    def laid(waiting):
        return constrain(waiting, "layers", None, "batch", "residual", None)

    def arrive(waiting, made, time):
        """Pass on what was made; what came round from the last stage waits at the first."""
        came = _on_stages(jnp.roll(made, 1, 0), 0)
        place = (time - stages) % microbatches
        kept = jnp.where(time < stages, waiting[:, place], came)
        return laid(waiting.at[:, place].set(kept)), came

    def tick(carry, time):
        waiting, made = carry
        waiting, came = arrive(waiting, made, time)
        turn = time - stage
        live = (turn >= 0) & (turn < turns)
        turn = jnp.clip(turn, 0, turns - 1)
        layer, batch = turn // microbatches, turn % microbatches
        here = jax.tree.map(
            lambda w: _on_stages(jax.vmap(lambda w, i: w[i], (1, 0))(w, layer), 0), layers
        )
        entering = jnp.where(first, waiting[:, time % microbatches], came)
        with_them = jax.tree.map(lambda a: a[batch], everything)
        made, measures = jax.vmap(block, spmd_axis_name="stage")(
            here, _on_stages(entering, 0), with_them
        )
        return (waiting, _on_stages(made, 0)), jax.tree.map(lambda m: (m * live).sum(), measures)

    parts = mesh.strided(x, microbatches)
    waiting = laid(jnp.broadcast_to(parts, (stages, *parts.shape)))  # each stage has room for all
    made = _on_stages(jnp.zeros((stages, *parts.shape[1:]), x.dtype), 0)
    ticks = jnp.arange(turns + stages - 1)
    (waiting, made), measures = jax.lax.scan(tick, (waiting, made), ticks)
    waiting, _ = arrive(waiting, made, turns + stages - 1)
    return mesh.joined(waiting[0]), jax.tree.map(lambda m: m.sum() / microbatches, measures)
