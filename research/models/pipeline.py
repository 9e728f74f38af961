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


def _on_stages(x: jax.Array, axis: int) -> jax.Array:
    """Split `axis` over the stages and leave the other axes as they are."""
    if mesh.size("stage") == 1:
        return x
    free = PartitionSpec.UNCONSTRAINED
    axes = ["stage" if each == axis else free for each in range(x.ndim)]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def run(
    block: Callable,
    layers: Any,
    x: jax.Array,
    condition: jax.Array | None,
    stages: int,
    microbatches: int,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return `block` applied layer after layer, and the sums over layers of what it measures.

    Args:
        block: (layer, x, condition) -> (x, measures), measures being means over the batch.
        layers: tree of parameters [depth, ...]; `stages` divides depth.
        x: [batch, length, width]; `microbatches`, at least `stages`, divides batch.
        condition: [batch, width] or None.
    """
    depth = jax.tree.leaves(layers)[0].shape[0]
    turns = depth // stages * microbatches  # of a stage: its layers, each over every micro-batch
    # At rest a stage holds neighbouring layers, whatever the number of stages; here it gets its
    # own, which moves a device's share of the parameters once a step.
    layers = jax.tree.map(
        lambda w: _on_stages(w.reshape(depth // stages, stages, *w.shape[1:]), 1), layers
    )

    conditions = None if condition is None else mesh.strided(condition, microbatches)
    stage = jnp.arange(stages)

    def tick(carry, time):
        waiting, made = carry
        turn = time - stage
        live = (turn >= 0) & (turn < turns)
        turn = jnp.clip(turn, 0, turns - 1)
        layer, batch = turn // microbatches, turn % microbatches
        here = jax.tree.map(
            lambda w: _on_stages(jax.vmap(lambda w, i: w[i], (1, 0))(w, layer), 0), layers
        )
        given = jnp.roll(made, 1, 0).at[0].set(waiting[time % microbatches])
        with_condition = None if conditions is None else conditions[batch]
        made, measures = jax.vmap(block, spmd_axis_name="stage")(
            here, _on_stages(given, 0), with_condition
        )
        made = _on_stages(made, 0)
        # What left the last stage waits for its next round; at the end, all of it is the answer.
        waiting = waiting.at[batch[-1]].set(jnp.where(live[-1], made[-1], waiting[batch[-1]]))
        return (waiting, made), jax.tree.map(lambda m: (m * live).sum(), measures)

    waiting = mesh.strided(x, microbatches)
    made = _on_stages(jnp.zeros((stages, *waiting.shape[1:]), x.dtype), 0)
    ticks = jnp.arange(turns + stages - 1)
    (waiting, _), measures = jax.lax.scan(tick, (waiting, made), ticks)
    return mesh.joined(waiting), jax.tree.map(lambda m: m.sum() / microbatches, measures)
