"""Matrix-product FLOPs of a traced function: what the ledger must equal."""

import jax
import numpy as np


def products(function, *arguments) -> int:
    """FLOPs of every matrix product that `function` runs; a scan's body counts its length."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            summed = np.prod([left[axis] for axis in contracted], dtype=int)
            total += 2 * int(summed) * int(np.prod(equation.outvars[0].aval.shape, dtype=int))
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                total += times * _count(inner)
    return total
