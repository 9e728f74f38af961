"""What a step moves and keeps, read from its jaxpr; no architecture is known here."""

import math
from typing import Any

from jax.extend.core import Literal

from research import cost

PRODUCTS = ("dot_general", "ragged_dot_general", "conv_general_dilated")


def product_bytes(jaxpr: Any) -> int:
    """Bytes that the matrix products and convolutions of a jaxpr read and write."""
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in PRODUCTS:
            total += sum(map(_size, (*equation.invars, *equation.outvars)))
        times = equation.params["length"] if name == "scan" else 1
        total += times * sum(map(product_bytes, cost.inner(name, equation.params)))
    return total


def live_bytes(jaxpr: Any) -> int:
    """The most bytes that a jaxpr has in memory beside its inputs, its equations run in order.

    An array lives from the equation that makes it to the last that reads it, so what a backward
    pass needs is there until then. Nothing is fused: a compiler needs less.
    """
    last = {v: index for index, e in enumerate(jaxpr.eqns) for v in e.invars if _is_var(v)}
    last |= dict.fromkeys(filter(_is_var, jaxpr.outvars), len(jaxpr.eqns))
    dies: dict[int, int] = {}
    live = peak = 0
    for index, equation in enumerate(jaxpr.eqns):
        name = equation.primitive.name
        inside = max(map(live_bytes, cost.inner(name, equation.params)), default=0)
        made = sum(map(_size, equation.outvars))
        peak = max(peak, live + (inside + made if name == "scan" else max(inside, made)))
        for v in equation.outvars:
            if v in last:
                live += _size(v)
                dies[last[v]] = dies.get(last[v], 0) + _size(v)
        live -= dies.pop(index, 0)
    return peak


def input_bytes(jaxpr: Any) -> int:
    """Bytes of what a jaxpr is given: of a step, the state and a batch."""
    return sum(map(_size, jaxpr.invars))


def _is_var(v: Any) -> bool:
    return not isinstance(v, Literal)


def _size(v: Any) -> int:
    shape, dtype = v.aval.shape, v.aval.dtype
    return math.prod(shape) * dtype.itemsize
