"""Our parameters and theirs, array by array: one table read in both directions."""

import fnmatch
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from research.errors import UserError, nearest
from research.families import autoregressive
from research.models import common

Array = Any
BLOCKS = "stack/blocks/"


class Link(NamedTuple):
    """One array of ours, and those of theirs that it is made of.

    Attributes:
        ours: its path; below "stack/blocks" it has one more axis, that of the layers.
        theirs: names, in which {} is the layer.
        pack: their arrays, of one layer, to ours.
        unpack: ours, of one layer, to theirs.
    """

    ours: str
    theirs: tuple[str, ...]
    pack: Callable[..., Array] = lambda x: x
    unpack: Callable[[Array], tuple[Array, ...]] = lambda x: (x,)


def same(ours: str, theirs: str) -> Link:
    """The array as it is."""
    return Link(ours, (theirs,))


def turned(ours: str, theirs: str) -> Link:
    """A map, which they write with its outputs first."""
    return Link(ours, (theirs,), lambda x: x.T, lambda x: (x.T,))


def norm(ours: str, theirs: str) -> list[Link]:
    """The scale and the bias of a layer norm."""
    return [same(f"{ours}/scale", f"{theirs}.weight"), same(f"{ours}/bias", f"{theirs}.bias")]


def heads_apart(model: Any, ours: str, theirs: tuple[str, str, str]) -> Link:
    """Queries, keys and values of all heads, [D, N, G + 2, K], from [heads K, D] of each."""
    kv_heads = model.num_kv_heads or model.num_heads
    groups, width = model.num_heads // kv_heads, model.width

    def pack(*each: Array) -> Array:
        return np.concatenate([x.T.reshape(width, kv_heads, -1, head_dim) for x in each], 2)

    def unpack(x: Array) -> tuple[Array, ...]:
        each = (x[:, :, :groups], x[:, :, groups], x[:, :, groups + 1])
        return tuple(x.reshape(width, -1).T for x in each)

    head_dim = width // model.num_heads
    return Link(ours, theirs, pack, unpack)


def shapes(config: ConfigDict) -> dict[str, tuple[int, ...]]:
    """{path: shape} of our parameters."""
    with common.undrawn():
        tree = jax.eval_shape(lambda: autoregressive.init(config, jax.random.key(0)))
    return {path: leaf.shape for path, leaf in flat(tree).items()}


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{path: leaf} of nested dicts."""
    found = {}
    for key, value in tree.items():
        path = f"{before}{key}"
        found |= flat(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
    return found


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of {path: leaf}."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = leaf
    return tree


def to_theirs(layout: ModuleType, model: Any, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Our parameters by their names; views where nothing has to be moved."""
    leaves, found = flat(params), {}
    for link in layout.links(model):
        leaf = np.asarray(leaves[link.ours])
        for layer, each in enumerate(leaf if link.ours.startswith(BLOCKS) else [leaf]):
            names = [name.format(layer) for name in link.theirs]
            found |= dict(zip(names, link.unpack(each), strict=True))
    return found


def expected(layout: ModuleType, config: ConfigDict) -> dict[str, tuple[int, ...]]:
    """{name: shape} of theirs, for the network of `config`."""
    ours, found = shapes(config), {}
    for link in layout.links(config.model):
        shape = ours[link.ours]
        layers, shape = (shape[0], shape[1:]) if link.ours.startswith(BLOCKS) else (1, shape)
        each = jax.eval_shape(link.unpack, jax.ShapeDtypeStruct(shape, np.float32))
        for layer in range(layers):
            names = [name.format(layer) for name in link.theirs]
            found |= {name: x.shape for name, x in zip(names, each, strict=True)}
    return found


def to_ours(layout: ModuleType, config: ConfigDict, read: Callable[[str], Array]) -> dict[str, Any]:
    """Our parameters, float32, from their arrays, which `read` gives by name one after another."""
    leaves, ours = {}, shapes(config)
    for link in layout.links(config.model):
        leaf = np.empty(ours[link.ours], np.float32)
        if link.ours.startswith(BLOCKS):
            for layer in range(len(leaf)):
                leaf[layer] = link.pack(*(read(name.format(layer)) for name in link.theirs))
        else:
            leaf[...] = link.pack(*map(read, link.theirs))
        leaves[link.ours] = leaf
    return nested(leaves)


def check(
    layout: ModuleType, config: ConfigDict, there: Mapping[str, tuple[int, ...]], folder: Any
) -> dict[str, str]:
    """{name that the layout has: name in the folder}, after a look at each tensor's shape.

    Raises:
        UserError: naming a tensor that is missing, has another shape or belongs to nothing.
    """
    wanted = expected(layout, config)
    whole = any(name.startswith(layout.PREFIX) for name in there)
    names = {name: name if whole else name.removeprefix(layout.PREFIX) for name in wanted}
    for name, shape in wanted.items():
        if names[name] not in there:
            hint = nearest(names[name], set(there) - set(names.values()))
            raise UserError(f"{folder} has no tensor {names[name]}{hint}")
        if tuple(there[names[name]]) != shape:
            raise UserError(
                f"{folder}: {names[name]} is {list(there[names[name]])}, and by its config.json "
                f"{list(shape)}"
            )
    for name in sorted(set(there) - set(names.values())):
        if not any(fnmatch.fnmatch(name, pattern) for pattern in layout.IGNORED):
            raise UserError(f"{folder} has a tensor {name} that {config.model.network} does not")
    return names
