"""A stack that an image steers through copies of its first blocks (Zhang et al. 2023, ControlNet).

A copy of the first blocks goes beside them, over their input and what the image adds to it; what
each copied block makes is added to the stream behind the block through a map that starts at zero,
as the image comes in through one (Chen et al. 2024, PixArt-delta, section 4.2, for Transformers).
So the network starts as the one without the image. A copy is kept as its difference from the
trunk's block, which starts at zero: whatever run the trunk begins with, it is that run's.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.errors import UserError
from research.mesh import constrain
from research.models.attention import Where
from research.models.common import Dense, declared
from research.models.transformer import Block, drawn_layers, means, runner
from research.parts import Machine


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(control_depth=0)  # blocks that are copied to read an image; 0: half of them


def wanted(model: Any) -> bool:
    """Whether the network is steered by an image."""
    return model.image_condition != "none" and model.image_input == "control"


def depth(model: Any) -> int:
    """Blocks that are copied."""
    return model.control_depth or -(-model.depth // 2)


def check(config: ConfigDict) -> None:
    """Raise UserError for more copies than blocks, or blocks that are not all alike."""
    model = config.model
    if not 0 <= model.control_depth <= model.depth:
        raise UserError(
            f"config.model.control_depth={model.control_depth} must be from 0 to "
            f"config.model.depth={model.depth}"
        )
    if wanted(model) and (model.pattern or model.residual_scalars):
        key, plain = ("pattern", ()) if model.pattern else ("residual_scalars", False)
        raise UserError(
            f"config.model.{key}={model[key]} must be {plain} for config.model.image_input="
            "'control', which copies blocks that are all alike; or use 'concatenate'"
        )


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError where two stacks would have to go round a pipeline."""
    if wanted(config.model) and machine.sizes["stage"] > 1:
        raise UserError(
            f"config.hardware.mesh.stage={machine.sizes['stage']} has no place for the copies of "
            "config.model.image_input='control'; use mesh.fsdp or mesh.tensor"
        )


class Copy(nn.Module):
    """A block and the map of what it makes into the trunk, which starts at zero."""

    model: FrozenConfigDict
    kernel: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x_BxLxD: jax.Array, *given: Any
    ) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
        block = Block(self.model, False, self.kernel, self.dtype, name="block")
        x_BxLxD, measures, _ = block(x_BxLxD, *given)
        out = Dense((x_BxLxD.shape[-1],), ("embed", None), True, 0.0, self.dtype, name="out")
        return x_BxLxD, measures, out(x_BxLxD)


class ControlledStack(nn.Module):
    """A bidirectional `Stack` whose first blocks are steered by `hint` [B, L, D].

    Its own parameters, "blocks", are those of a `Stack` without an image.
    """

    model: Any
    hardware: Any

    @nn.compact
    def __call__(
        self,
        x_BxLxD: jax.Array,
        condition: jax.Array | None,
        where: Where,
        memory_BxSxD: jax.Array | None,
        hint_BxLxD: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array], None]:
        model, hardware = self.model, self.hardware
        dtype, count = jnp.dtype(hardware.compute_dtype), depth(self.model)
        x = constrain(x_BxLxD.astype(dtype), "batch", "residual", None)
        given = (None if condition is None else condition.astype(dtype), where, None, memory_BxSxD)
        how: dict[str, Any] = dict(dtype=dtype, parent=None)
        kinds: list[nn.Module] = [
            Block(model, False, hardware.attention, **how),
            Copy(model, hardware.attention, **how),
        ]
        trunk: Any = declared(self, "blocks", drawn_layers, model, kinds[:1], x, given)
        few = FrozenConfigDict({**model, "depth": count})
        found: Any = declared(self, "control", _unchanged, few, kinds[1:], x, given)
        if self.is_initializing():  # nobody reads what new layers make of an example
            return x, {}, None
        straight = hardware.unroll >= model.depth
        runs = [runner(kind, hardware.remat, straight) for kind in kinds]

        def steered(carry: Any, layer: Any) -> Any:
            (x, copy), (own, change) = carry, layer
            kept = jax.tree.map(jax.lax.stop_gradient, own)
            block = jax.tree.map(jnp.add, kept, change["block"])
            copy, _, added = runs[1]({"block": block, "out": change["out"]}, copy, given)
            x, measures, _ = runs[0](own, x, given)
            return (x + added, copy), measures

        first = (jax.tree.map(lambda leaf: leaf[:count], trunk), found)
        start = (x, x + hint_BxLxD.astype(dtype))
        (x, _), one = jax.lax.scan(steered, start, first, unroll=straight)
        rest = jax.tree.map(lambda leaf: leaf[count:], trunk)
        x, two = jax.lax.scan(lambda x, own: runs[0](own, x, given)[:2], x, rest, unroll=straight)
        return x, means([one, two] if count < model.depth else [one]), None


def _unchanged(key: jax.Array, *arguments: Any) -> Any:
    """Parameters of copies that are no other than the trunk's, and of their maps."""
    drawn: Any = drawn_layers(key, *arguments)
    return {**drawn, "block": jax.tree.map(jnp.zeros_like, drawn["block"])}
