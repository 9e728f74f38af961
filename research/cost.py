"""The one FLOP and parameter ledger: what a family's functions compute, read from their programs.

Nothing here knows an architecture. A function is traced with abstract arrays and its jaxpr walked:
a matrix product [m, k] x [k, n] is 2 m k n FLOPs, a convolution 2 for each pair of a kernel's tap
and an input under it, a scan its body times its length, a branch the dearest one. Attention scores
are counted dense (a causal mask saves nothing here); look-ups, norms and activations count zero.
The backward pass is whatever the step computes, twice the forward of a network that is all
trained: it reads "6ND plus attention", with the head inside.

What is traced is the neutral program, dense attention without remat or chunks on one device, so
that hardware never changes science; `executed` counts what a config's hardware does beside it.
"""

import copy
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from research import counts, data, defaults, families, programs
from research.errors import UserError

CONVENTION = {
    "params": "total, embeddings and head included",
    "flops": "ledger: matrix products and convolutions of the train step, attention dense, "
    "head inside; nothing computed again",
}
UNREADABLE = ("pallas_call", "ffi_call", "pure_callback", "io_callback", "tpu_custom_call")
CONTAINERS = ("stack", "blocks")  # scopes that only hold others, as classes' names do
# Axes of tables and of the head; a "lookup" table is one beside the embedding of the input.
TABLES = ("vocab", "lookup", "class", "position", "output", "logits")


class Ledger:
    """Parameters and FLOPs of a config, each traced when first asked for.

    Scopes are modules' paths such as "attention/qkv".
    """

    def __init__(self, config: ConfigDict, spec: dict[str, Any]):
        self._config, self._spec = config, spec  # of the neutral program, and the data's
        self._family = families.load(config.family)

    @functools.cached_property
    def _shapes(self) -> Any:
        return programs.parameter_shapes(self._config)

    @functools.cached_property
    def _parameters(self) -> tuple[dict[str, int], int, int, int]:
        return _parameters(self._config, self._shapes)

    def _count(self, function: Callable, batch_size: int, *rest: str) -> dict[str, int]:
        """FLOPs by scope of a function of config, parameters, a batch and `rest` of `inputs`."""
        given = inputs(self._spec, batch_size)
        arguments = (self._shapes, *(given[name] for name in rest))
        called = functools.partial(function, self._config)
        return count(called, *arguments, **_declared(self._config, batch_size))

    @functools.cached_property
    def forward_flops(self) -> dict[str, int]:
        """FLOPs of the loss of one example, by scope."""

        def loss(config: ConfigDict, params: Any, *rest: Any) -> Any:
            state = programs.fresh(config, self._family, params)
            return programs.loss_of(self._family, state)(config, params, *rest)

        return self._count(loss, 1, "batch", "key", "step")

    @functools.cached_property
    def score_flops(self) -> int:
        """FLOPs of the score of one example."""
        return sum(self._count(self._family.score, 1, "scored", "key").values())

    @functools.cached_property
    def step_flops(self) -> int:
        """FLOPs of one train step at `config.train.batch_size`.

        They are forward, backward, and all else that a family's or an optimizer's update computes.
        """
        return sum(self.step_flops_by_scope.values())

    @functools.cached_property
    def step_flops_by_scope(self) -> dict[str, int]:
        """`step_flops` by scope; those of the optimizer begin with "optimizer"."""
        shape = self._config.to_json(sort_keys=True)
        return counts.flops(shape, lambda: _step_flops(self._config, self._spec))

    @property
    def flops(self) -> int:
        """Forward FLOPs of one example."""
        return sum(self.forward_flops.values())

    @property
    def tokens(self) -> int:
        """Positions the network processes for one example: text tokens, image patches."""
        if hasattr(self._family, "positions"):
            return self._family.positions(self._config)
        return self._spec.get("length", 1)

    @property
    def params(self) -> dict[str, int]:
        """Parameters by scope, which sum to the network's total."""
        return self._parameters[0]

    @property
    def total_params(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self._shapes))

    @property
    def active_params(self) -> int:
        """Parameters that a position meets: not experts and rows that it is not sent to.

        Every row of the embedding counts, as in published sizes.
        """
        return self.total_params - self._parameters[2]

    @property
    def lookup_params(self) -> int:
        """Parameters of tables beside the embedding, which cost memory and no FLOPs."""
        return self._parameters[3]

    @property
    def non_embedding_params(self) -> int:
        """Parameters without look-up tables and the head (Kaplan 2020's N)."""
        return self.total_params - self._parameters[1]


def groups(table: Mapping[str, int]) -> dict[str, int]:
    """Sum a table of scopes by the first part of each: "attention/qkv" is of "attention"."""
    total: Counter[str] = Counter()
    for scope, count in table.items():
        total[scope.partition("/")[0]] += count
    return dict(total)


def ledger(config: ConfigDict) -> Ledger:
    """Return the ledger of `config`, traced once a process for each shape.

    `train.steps` and what else its programs never read may still be open.

    Raises:
        UserError: when the FLOPs cannot be read; see `count`.
    """
    neutral = programs.close(config)
    neutral.hardware = defaults.hardware()
    neutral.hardware.unroll = 1  # a block is traced once, whatever the depth
    spec = data.outline(config.data)
    return _ledger(neutral.to_json(sort_keys=True), programs.Carried((neutral, spec)))


@functools.lru_cache(maxsize=1024)
def _ledger(shape: str, carried: programs.Carried) -> Ledger:
    del shape
    return Ledger(*carried.held)


def executed(config: ConfigDict) -> dict[str, int]:
    """FLOPs of a step by scope as `config.hardware` computes it: what remat makes again is in it.

    A tiled kernel of attention cannot be read; it computes what attention in chunks does.
    """
    return _step_flops(_at_hand(config), data.outline(config.data))


def step(config: ConfigDict) -> Any:
    """The jaxpr of a step of `config` as `executed` counts it: of a state, a batch, key and step.

    It is traced once a process for each shape; where the hardware is neutral, with the ledger.
    """
    return _traced(_at_hand(config), data.outline(config.data))


def _at_hand(config: ConfigDict) -> ConfigDict:
    """`config` as its hardware computes it, on one device and a block traced once."""
    shape = copy.deepcopy(programs.close(config))
    shape.hardware.mesh = defaults.hardware().mesh
    shape.hardware.unroll = 1
    if shape.hardware.attention != "dense":
        shape.hardware.attention = "chunked"
    return shape


def _step_flops(config: ConfigDict, spec: dict[str, Any]) -> dict[str, int]:
    """FLOPs of a step by scope."""
    return _sums(_traced(config, spec), **_declared(config, config.train.batch_size))


def _declared(config: ConfigDict, size: int) -> dict[str, Any]:
    """What `count` is told of the family: what it declares of a batch of `size`, and its name."""
    family = families.load(config.family)
    each = family.unread_flops(config) if hasattr(family, "unread_flops") else {}
    declared = {scope: flops * size for scope, flops in each.items()}
    return {"declared": declared, "of": f"config.family={config.family!r}"}


def _traced(config: ConfigDict, spec: dict[str, Any]) -> Any:
    return _jaxpr(config.to_json(sort_keys=True), programs.Carried((config, spec)))


@functools.lru_cache(maxsize=256)
def _jaxpr(shape: str, carried: programs.Carried) -> Any:
    del shape
    config, spec = carried.held
    family = families.load(config.family)
    state = programs.fresh_shapes(config)
    given = inputs(spec, config.train.batch_size)
    arguments = (state, *(given[name] for name in ("batch", "key", "step")))

    def step(state: Any, batch: Any, key: Any, step: Any) -> Any:
        return programs.update(config, family, state, batch, key, step, np.float32(0))

    return jax.make_jaxpr(step)(*arguments).jaxpr


def inputs(spec: dict[str, Any], size: int) -> dict[str, Any]:
    """What training and scoring a batch of `size` examples are given, without arrays."""
    shapes = data.batch_shapes(spec, size)
    batch = {name: jax.ShapeDtypeStruct(*each) for name, each in shapes.items()}
    return {
        "batch": batch,
        "scored": batch | {"mask": jax.ShapeDtypeStruct((size,), np.float32)},
        "key": jax.eval_shape(lambda: jax.random.key(0)),
        "step": jax.ShapeDtypeStruct((), np.int32),
    }


def _parameters(config: ConfigDict, params: Any) -> tuple[dict[str, int], int, int, int]:
    """Parameters by scope; those of tables and the head, unmet by a position, of look-up tables."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    axes = families.axes(config, params)
    table: Counter[str] = Counter()
    embedding = idle = lookup = 0
    for (path, leaf), names in zip(leaves, axes, strict=True):
        words = [str(getattr(k, "key", getattr(k, "idx", k))) for k in path]
        if words[1:2] == ["blocks"] and words[2].isdigit():  # an entry of a pattern of layers
            del words[2]
        scope = [word for word in words if word not in CONTAINERS]
        table["norm" if "norm" in names else "/".join(scope[:-1] or scope)] += leaf.size
        if any(name in TABLES for name in names):
            embedding += leaf.size
        if "experts" in names:
            experts = leaf.shape[names.index("experts")]
            met = config.model.get("experts_per_token", experts)
            idle += leaf.size * (experts - met) // experts
        if "lookup" in names:
            lookup += leaf.size
            idle += leaf.size - leaf.size // leaf.shape[names.index("lookup")]
    return dict(table), embedding, idle, lookup


def count(
    function: Callable, *arguments: Any, declared: Mapping[str, int] | None = None, of: str = ""
) -> dict[str, int]:
    """FLOPs by scope of what `function` computes of `arguments`, arrays or their shapes.

    Args:
        declared: FLOPs by scope of each loop or kernel there that cannot be read.
        of: what a refusal names first.

    Raises:
        UserError: for a product inside a loop of unknown length, or a kernel that is not a jaxpr,
            in a scope that is not declared.
    """
    return _sums(jax.make_jaxpr(function)(*arguments).jaxpr, declared, of)


def _sums(jaxpr: Any, declared: Mapping[str, int] | None = None, of: str = "") -> dict[str, int]:
    """FLOPs by scope of a jaxpr, as `count` says."""
    total: Counter[str] = Counter()
    for primitive, scope, flops in _read(jaxpr, (), declared or {}):
        if flops is None:
            raise UserError(
                f"{of or 'a function'}: the FLOPs of `{primitive}` in scope {scope or 'none'!r} "
                "cannot be read from the program; put it into a jax.named_scope and let the "
                "family's unread_flops(config) give that scope's FLOPs of one example"
            )
        total[scope] += flops
    return dict(total)


def _read(
    jaxpr: Any, outer: tuple[str, ...], declared: Mapping[str, int]
) -> Iterator[tuple[str, str, int | None]]:
    """(primitive, scope, FLOPs) of each equation that has any; None where they are not known."""
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        scopes = (*outer, str(equation.source_info.name_stack))
        inside = list(inner(name, params))
        if name == "dot_general":
            yield name, _scope(scopes), _dot(equation)
        elif name == "ragged_dot_general":
            yield name, _scope(scopes), _ragged(equation)
        elif name == "conv_general_dilated":
            yield name, _scope(scopes), _convolution(equation)
        elif name == "cond":
            branches = [list(_read(branch, scopes, declared)) for branch in inside]
            yield from max(branches, key=lambda found: sum(flops or 0 for *_, flops in found))
        elif name in UNREADABLE:
            yield name, _scope(scopes), declared.get(_scope(scopes))
        elif name == "while":
            if any(True for each in inside for _ in _read(each, scopes, declared)):
                yield name, _scope(scopes), declared.get(_scope(scopes))
        else:
            times = params["length"] if name == "scan" else 1
            if name == "shard_map":
                times = params["mesh"].size
            for each in inside:
                for primitive, scope, flops in _read(each, scopes, declared):
                    yield primitive, scope, None if flops is None else times * flops


def inner(name: str, params: Mapping[str, Any]) -> Iterator[Any]:
    """The jaxprs that an equation runs."""
    values = list(params.values())
    if name == "custom_linear_solve":  # beside it lie the transposed solver and the products
        values = [params["jaxprs"].solve]
    elif name == "linear_call":  # and its transpose
        values = [params["callee"]]
    elif name == "cond" and params.get("branches_platforms"):  # kernels of one thing: any machine's
        values = [params["branches"][-1]]
    for value in values:
        for each in value if isinstance(value, (tuple, list)) else (value,):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                yield each


def _dot(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(left[a] for a in contracted) * math.prod(equation.outvars[0].aval.shape)


def _ragged(equation: Any) -> int:
    """2 for each row and each number that the row, of one group, is multiplied with."""
    numbers = equation.params["ragged_dot_dimension_numbers"]
    (_, contracted), (_, batch) = numbers.dot_dimension_numbers
    rows, matrices = (v.aval.shape for v in equation.invars[:2])
    others = {*contracted, *batch, *numbers.rhs_group_dimensions}
    features = (size for axis, size in enumerate(matrices) if axis not in others)
    return 2 * math.prod(rows) * math.prod(features)


def _convolution(equation: Any) -> int:
    """2 for each tap of a kernel with an input under it: neither padding nor a hole of dilation.

    So a transposed convolution, and each of the two gradients, count as the convolution does.
    """
    params, (x, kernel) = equation.params, (v.aval.shape for v in equation.invars)
    numbers = params["dimension_numbers"]
    out = equation.outvars[0].aval.shape
    pairs = 1
    for index, axis in enumerate(numbers.lhs_spec[2:]):
        low, _ = params["padding"][index]
        hole = params["lhs_dilation"][index]
        position = np.arange(out[numbers.out_spec[2 + index]])[:, None]
        position = position * params["window_strides"][index] - low
        tap = np.arange(kernel[numbers.rhs_spec[2 + index]]) * params["rhs_dilation"][index]
        place = position + tap
        inside = (place >= 0) & (place <= (x[axis] - 1) * hole) & (place % hole == 0)
        pairs *= int(inside.sum())
    batch = x[numbers.lhs_spec[0]] // params["batch_group_count"]
    inputs, outputs = (kernel[numbers.rhs_spec[1]], kernel[numbers.rhs_spec[0]])
    return 2 * batch * inputs * outputs * pairs


def _scope(stacks: tuple[str, ...]) -> str:
    """The module's path in name stacks such as "transpose(jvp(DiT))/stack/Block/mlp/up".

    Names of transformations, of classes, of containers and of einsums are left out.
    """
    words = re.sub(r"\w+\(|\)", "", "/".join(stacks)).split("/")
    kept = (w for w in words if w and w not in CONTAINERS and not w[0].isupper() and "->" not in w)
    return "/".join(kept)
