"""The design of any other law: JAX in float64 gives its values and derivatives (see design.py)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from research.scaling.engine.coordinates import Design
from research.scaling.engine.objective import HUBER, Objective
from research.scaling.laws import Law

# Problems are worked in blocks, and rows padded to 2^k or 3 * 2^k: tables share compiled programs.
BLOCK = 64
FEWEST_ROWS = 64


@dataclass(frozen=True)
class Autodiff(Design):
    """A law of any formula on one table."""

    @functools.cached_property
    def padded(self) -> dict[str, np.ndarray]:
        """The variables with their first row repeated at the end."""
        power = 1 << (self.num_rows - 1).bit_length()
        most = 3 * power // 4 if self.num_rows <= 3 * power // 4 else power
        extra = max(FEWEST_ROWS, most) - self.num_rows
        return {
            name: np.concatenate([column, np.repeat(column[:1], extra)])
            for name, column in self.variables.items()
        }

    @functools.cached_property
    def plain(self) -> bool:
        """Whether the law's function is numpy's own where its arguments are: nothing to compile."""
        assert self.law.function is not None
        with np.errstate(all="ignore"):
            values = dict.fromkeys(self.law.names, np.ones(1))
            first = {name: column[:1] for name, column in self.variables.items()}
            return isinstance(self.law.function(values, first), np.ndarray)

    def predict(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        if self.plain:
            loss = self.law.loss(self.to_parameters(theta), **self.variables)
            with np.errstate(all="ignore"):
                return np.log(loss) if log else loss
        return self._blocks(_kernels(self.law, log).predict, theta)[:, : self.num_rows]

    def jacobian(self, theta: np.ndarray, log: bool = True) -> np.ndarray:
        return self._blocks(_kernels(self.law, log).jacobian, theta)[:, : self.num_rows]

    def evaluate(
        self,
        theta: np.ndarray,
        target: np.ndarray,
        weights: np.ndarray,
        objective: Objective = HUBER,
        reweighted: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kernels = _kernels(self.law, objective.log)
        residual = self.predict(theta, objective.log) - target
        cost = (weights * objective.cost(residual)).sum(1)
        slope, curvature = objective.derivatives(residual, reweighted)
        kernel = kernels.reweighted if reweighted else kernels.exact
        gradient, hessian = self._blocks(kernel, theta, slope * weights, curvature * weights)
        return cost, gradient, hessian

    def _blocks(self, kernel, theta, *rows):
        """Call `kernel` on blocks of problems of a fixed size, the last one padded."""
        import jax

        # Padding rows weigh nothing.
        widths = [theta.shape[1], *(len(next(iter(self.padded.values()))) for _ in rows)]
        parts = []
        with jax.enable_x64():
            for start in range(0, len(theta), BLOCK):
                block = [np.zeros((BLOCK, width)) for width in widths]
                count = len(theta[start : start + BLOCK])
                for padded, array in zip(block, (theta, *rows), strict=True):
                    padded[:count, : array.shape[1]] = array[start : start + BLOCK]
                done = kernel(self.padded, count, *block)
                parts.append(jax.tree.map(lambda a, n=count: np.asarray(a)[:n], done))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


@dataclass(frozen=True)
class _Kernels:
    predict: Callable
    jacobian: Callable
    reweighted: Callable
    exact: Callable


@functools.cache
def _options() -> dict[str, bool]:
    """XLA's older emitters for CPUs, where it still has them: a newer XLA refuses the option.

    They compile such small programs in two thirds of the time, and these run no slower (measured
    on muennighoff, 182 rows: 18 s for 26).
    """
    import jax

    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options if jax.default_backend() == "cpu" else {}


@functools.cache
def _kernels(law: Law, log: bool) -> _Kernels:
    """Functions of (variables, how many problems count, theta [S, P], ...) of one law."""
    import jax
    import jax.numpy as jnp

    assert law.function is not None
    function = law.function
    logs = [parameter.logarithmic for parameter in law.parameters]

    def value(theta, variables):
        each = [jnp.exp(t) if is_log else t for t, is_log in zip(theta, logs, strict=True)]
        loss = function(dict(zip(law.names, each, strict=True)), variables)
        return jnp.log(loss) if log else loss

    def bend(variables, theta, slope):
        # Forward over reverse: runs in a third of the time of forward over forward.
        return jax.jacfwd(jax.grad(lambda t: slope @ value(t, variables)))(theta)

    def batched(function):
        # A loop and not a vmap: of a block only the problems that are there are worked.
        @functools.partial(jax.jit, compiler_options=_options())
        def run(variables, count, *block):
            row = [array[0] for array in block]
            shapes = jax.eval_shape(function, variables, *row)
            first = jax.tree.map(lambda s: jnp.zeros((BLOCK, *s.shape), s.dtype), shapes)

            def body(i, done):
                one = function(variables, *(array[i] for array in block))
                return jax.tree.map(lambda all, new: all.at[i].set(new), done, one)

            return jax.lax.fori_loop(0, count, body, first)

        return run

    jacobian = batched(lambda variables, theta: jax.jacfwd(value)(theta, variables))
    second = batched(bend)

    # Products are NumPy's: XLA takes longer to compile them than they ever run.
    def reweighted(variables, count, theta, slope, curvature):
        slopes = np.asarray(jacobian(variables, count, theta))[:count]
        across = slopes.transpose(0, 2, 1)
        with np.errstate(all="ignore"):
            gradient = (across @ slope[:count, :, None])[..., 0]
            return gradient, (across * curvature[:count, None]) @ slopes

    def exact(variables, count, theta, slope, curvature):
        gradient, hessian = reweighted(variables, count, theta, slope, curvature)
        return gradient, hessian + np.asarray(second(variables, count, theta, slope))[:count]

    predict = batched(lambda variables, theta: value(theta, variables))
    return _Kernels(predict, jacobian, reweighted, exact)
