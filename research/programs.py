"""The compiled programs of a config: init, step and score, shared by every run of one shape."""

import copy
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import families, mesh, optim
from research.errors import UserError
from research.models.common import undrawn
from research.optim import power_average

# What a program takes as an argument or never reads; runs that differ only here share it.
ARGUMENTS = {
    "train": ("steps", "learning_rate", "schedule", "warmup_steps", "decay_steps", "decay_shape"),
    "evaluation": (
        "examples", "evaluators", "every_steps", "steps", "image_recipe", "features",
    ),
    "data": ("folder", "seed", "unique"),
}  # fmt: skip
WHOLE_BYTES, WHOLE_SHARE = 2**20, 0.01  # of the parameters: less is not worth a word
log = logging.getLogger("research")
UNREAD = ("part", "arm", "seed", "size", "budget", "recipe", "sampling", "checkpoint", "log_steps")


class Programs(NamedTuple):
    """Jitted functions and the layout of the state they share.

    init(key) -> state; begin(params) -> the state in their place; step(state, batch, key, index,
    learning_rate) -> (state, metrics), the old state is donated; judge(function) -> the compiled
    function of params, batch and key, whose first argument, the config, is given. For several runs
    at once, stack(*states) -> their states along a first axis, and together(states, batches, keys,
    indices, learning_rates) -> (states, metrics of each), of tuples that have an entry a run.
    State is {"params", "opt_state"} and, when averaged, "ema", or "averages" of several lengths;
    "memory" where a family's step hands on more, "reference" where parameters lie frozen beside
    the trained ones.
    """

    init: Callable
    begin: Callable
    step: Callable
    judge: Callable
    stack: Callable
    together: Callable
    state: Any  # ShapeDtypeStructs with shardings
    batch: jax.sharding.NamedSharding


class Closed(ConfigDict):
    """A section of a config that lacks what runs of one shape may differ in.

    A program that read such a key would have the first run's value for all of them.

    Attributes:
        closed: {key: its dotted name}; reading one raises UserError.
    """

    def __init__(self, section: Any, closed: dict[str, str]):
        super().__init__()
        object.__setattr__(self, "closed", closed)
        for key in section:
            if key not in closed:
                self[key] = section[key]

    def __getitem__(self, key: str) -> Any:
        if name := self.closed.get(key):
            raise UserError(
                f"a family or optimizer reads {name} inside a compiled program, which runs of "
                "other values share; let it read a key of config.model instead"
            )
        return super().__getitem__(key)

    def __deepcopy__(self, memo: dict) -> "Closed":
        return Closed({key: copy.deepcopy(self[key], memo) for key in self}, self.closed)


def close(config: ConfigDict) -> ConfigDict:
    """Return `config` without what its programs take as an argument or may not read."""
    kept = Closed(config, {key: f"config.{key}" for key in UNREAD})
    for section, keys in ARGUMENTS.items():
        kept[section] = Closed(config[section], {k: f"config.{section}.{k}" for k in keys})
    return kept


def shape(config: ConfigDict) -> str:
    """What decides the programs of `config`, as text: equal for runs that share them."""
    return close(config).to_json(sort_keys=True)


def build(config: ConfigDict, devices: Any = None) -> Programs:
    """Return the programs of `config`, compiled once a process for each shape.

    Args:
        devices: for a mesh, as `mesh.make` takes them: all of this machine by default, or those of
            a topology that is elsewhere.
    """
    grid = mesh.make(config.hardware.mesh, devices)
    return _build(shape(config), grid, Carried(close(config)))


class Carried:
    """Hands what it holds through `lru_cache` without being part of the cache's key."""

    def __init__(self, held: Any):
        self.held = copy.deepcopy(held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Carried)

    def __hash__(self) -> int:
        return 0


def fresh(config: ConfigDict, family: Any, params: Any) -> dict[str, Any]:
    """The state that training begins with from `params`.

    Copies, so that donating the state never hands over one buffer twice.
    """
    init_optimizer = getattr(family, "init_optimizer", optim.init)
    state = {"params": params, "opt_state": init_optimizer(config, params)}
    if config.train.ema_decay:
        state["ema"] = jax.tree.map(jnp.copy, optim.trained(config, params))
    if widths := config.train.ema_widths:
        state["averages"] = power_average.begun(widths, optim.trained(config, params))
    if hasattr(family, "memory"):
        state["memory"] = family.memory(config, params)
    kept = family.reference(config, params) if hasattr(family, "reference") else None
    if kept is not None:
        state["reference"] = jax.tree.map(jnp.copy, kept)
    return state


def fresh_shapes(config: ConfigDict) -> dict[str, Any]:
    """The shapes of that state, made without arrays."""
    family = families.load(config.family)
    return jax.eval_shape(lambda params: fresh(config, family, params), parameter_shapes(config))


def parameter_shapes(config: ConfigDict) -> Any:
    """The shapes of its parameters, traced once a process for each shape of the programs."""
    return _parameter_shapes(shape(config), Carried(close(config)))


@functools.lru_cache(maxsize=256)
def _parameter_shapes(key: str, carried: Carried) -> Any:
    del key
    config = carried.held
    family = families.load(config.family)
    with undrawn():
        return jax.eval_shape(lambda: family.init(config, jax.random.key(0)))


def stacked(*trees: Any) -> Any:
    """Trees of like arrays as one, whose arrays have a first axis that counts the trees."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def saved(state: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a state that change, which every checkpoint holds."""
    return {name: part for name, part in state.items() if name != "reference"}


def loss_of(family: Any, state: dict[str, Any]) -> Callable:
    """The family's loss, given the frozen reference of the state where there is one."""
    if "reference" in state:
        return functools.partial(family.loss, reference=state["reference"])
    return family.loss


def update(config: ConfigDict, family: Any, state: Any, batch: Any, key: Any, step: Any, rate: Any):
    """One train step of the family: its own, or that of one gradient of its loss."""
    if hasattr(family, "update"):
        return family.update(config, state, batch, key, step, rate)
    return optim.update(loss_of(family, state), config, state, batch, key, step, rate)


@functools.lru_cache(maxsize=8)
def _build(key: str, grid: jax.sharding.Mesh, carried: Carried) -> Programs:
    del key
    config = carried.held
    family = families.load(config.family)
    decay = config.train.ema_decay

    def on_grid(function):
        """`function` traced where `mesh.constrain` finds the mesh."""

        def traced(*arguments):
            with jax.sharding.use_abstract_mesh(grid.abstract_mesh):
                return function(*arguments)

        return traced

    def init(key):
        return fresh(config, family, optim.begun(config, family.init(config, key)))

    @on_grid
    def step(state, batch, key, index, learning_rate):
        key = jax.random.fold_in(key, index)
        if working is not rest:
            state = jax.device_put(state, working)  # what is offloaded; nothing else moves
        ema, averages = state.pop("ema", None), state.pop("averages", None)
        state, metrics = update(config, family, state, batch, key, index, learning_rate)
        if decay:
            # Early steps average over what there is: min(decay, (1 + t) / (10 + t)).
            weight = jnp.minimum(decay, (1 + index) / (10 + index))
            state["ema"] = jax.tree.map(
                lambda old, new: weight * old + (1 - weight) * new,
                ema,
                optim.trained(config, state["params"]),
            )
        if averages is not None:
            new = optim.trained(config, state["params"])
            state["averages"] = power_average.moved(averages, new, index)
        return state, metrics

    def together(states, *inputs):
        states, metrics = jax.vmap(alone)(states, *(stacked(*each) for each in inputs))
        rows = zip(*metrics.values(), strict=True)
        return states, [dict(zip(metrics, row, strict=True)) for row in rows]

    @functools.cache
    def judge(function):
        judged = on_grid(functools.partial(function, config))
        shardings = (rest["params"], split, everywhere)
        return jax.jit(judged, in_shardings=shardings, out_shardings=everywhere)

    shapes = fresh_shapes(config)
    axes, strangers = state_axes(config, shapes)
    working, rest = layout(config, grid, shapes, axes)
    _say_whole(working["params"], strangers, shapes["params"])
    everywhere, split = mesh.replicated(grid), mesh.batch_sharding(grid)
    abreast = jax.tree.map(lambda each: each.update(spec=(None, *each.spec)), rest)
    alone = jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(rest, split, everywhere, everywhere, everywhere),
        out_shardings=(rest, everywhere),
    )
    return Programs(
        init=jax.jit(init, out_shardings=rest),
        step=alone,
        begin=jax.jit(lambda params: fresh(config, family, params), out_shardings=rest),
        judge=judge,
        stack=jax.jit(stacked, out_shardings=abreast),
        together=jax.jit(together, donate_argnums=0, out_shardings=(abreast, everywhere)),
        state=laid_out(shapes, rest),
        batch=split,
    )


def state_axes(config: ConfigDict, shapes: dict[str, Any]) -> tuple[Any, list]:
    """Logical axes of every array of the state: moments and averages have their parameters'.

    Also (path, shape) of those that have no parameter's shape, of a family that names any axes.
    """
    flatten = jax.tree_util.tree_flatten_with_path
    params, strangers = flatten(shapes["params"])[0], []
    pairs = zip(params, families.axes(config, shapes["params"]), strict=True)
    names = {path: (axes, leaf.shape) for (path, leaf), axes in pairs}

    def logical(path, leaf):
        # ("opt_state", 1, "mu", "stack", "kernel") ends as the parameter ("stack", "kernel") does.
        for start in range(len(path)):
            axes, shape = names.get(path[start:], ((), ()))
            if shape == leaf.shape:
                return axes
            for out in range(len(shape)):  # a factor of a moment lacks one of the axes
                if (*shape[:out], *shape[out + 1 :]) == leaf.shape:
                    return (*axes[:out], *axes[out + 1 :])
        strangers.append((path, leaf))
        return (None,) * leaf.ndim

    return jax.tree_util.tree_map_with_path(logical, shapes), strangers


def layout(config: ConfigDict, grid: Any, shapes: dict[str, Any], axes: Any) -> tuple[Any, Any]:
    """Shardings of the state on `grid`, a mesh or an abstract one: in a step, and between steps.

    Raises:
        UserError: when an axis does not divide by the devices it is split over.
    """
    working = mesh.shardings(grid, axes, shapes)
    if config.hardware.shard_optimizer:
        split = functools.partial(mesh.split_further, axes=("slice", "data"))
        for part in {"opt_state", "ema", "averages"} & set(working):
            working[part] = jax.tree.map(split, working[part], shapes[part])
    if not config.hardware.offload_optimizer:
        return working, working

    def rest(sharding, leaf):
        return sharding.with_memory_kind("pinned_host") if leaf.ndim else sharding

    offloaded = jax.tree.map(rest, working["opt_state"], shapes["opt_state"])
    return working, {**working, "opt_state": offloaded}


def laid_out(shapes: Any, shardings: Any) -> Any:
    """`shapes` with the sharding of each."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def _say_whole(layout: Any, strangers: list, params: Any) -> None:
    """Warn of what each device holds whole though the parameters are split, where it is much."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    whole = [(leaf.size * leaf.dtype.itemsize, path) for path, leaf in strangers]
    much = [(held, path) for held, path in whole if held > max(WHOLE_SHARE * size, WHOLE_BYTES)]
    if much and not all(each.is_fully_replicated for each in jax.tree.leaves(layout)):
        held, path = max(much, key=lambda pair: pair[0])
        log.warning(
            "%s of the state has no parameter's shape: each device holds it whole, %.1f MiB, "
            "and %d more such arrays",
            jax.tree_util.keystr(path), held / 2**20, len(much) - 1,
        )  # fmt: skip
