"""What a squared error weighs in training, at each log-SNR.

A weighting gives the weight of a squared error of eps, [batch], from (process, gamma, slope), where
slope is d gamma / dt at the drawn time; None weighs the error of whatever the network predicts by 1
(Ho 2020, eq. 14). `bound` and `sigmoid` divide by how often a log-SNR is drawn, so that their loss
does not depend on the schedule (Kingma & Gao 2023); the others are as their papers have them, under
the schedule's own density of times.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from research.errors import UserError
from research.families.diffusion.process import Process
from research.parts import check_choice

Weigh = Callable[[Any, Process, Array, Array], Array]


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(
        loss_weighting="simple",
        min_snr=5.0,  # of "min_snr"
        sigmoid_bias=0.0,  # of "sigmoid": the log-SNR below which errors count
    )


def _bound(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
    """Bits of the variational bound (Kingma 2021, eq. 17)."""
    return 0.5 * slope / np.log(2)


def _sigmoid(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
    """Less weight where there is little noise, sigmoid(bias - log SNR) (Kingma & Gao 2023)."""
    return 0.5 * slope * jax.nn.sigmoid(model.sigmoid_bias + gamma)


def _min_snr(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
    """min(SNR, bound) on x_0, which is min(1, bound / SNR) on eps (Hang 2023, eq. 8)."""
    return jnp.minimum(1.0, model.min_snr * jnp.exp(gamma))


def _edm(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
    """Unit weight on F: (noise^2 + std^2) / (noise std)^2 on x_0 (Karras 2022, table 1)."""
    return 1 + jnp.exp(gamma) / process.data_std**2


def _truncated_snr(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
    """max(SNR, 1) on x_0, which few steps of noise alone still have to find (Salimans 2022)."""
    return jnp.maximum(1.0, jnp.exp(gamma))


def _unit(prediction: str) -> Weigh:
    """Unit weight on the error of `prediction`, whatever the network predicts.

    That of "eps" is sigma^2 on a score (Song & Ermon 2019, eq. 6); that of "velocity", a network of
    x_0 that is asked for straight paths (Li & He 2025).
    """

    def weigh(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
        return 1 / dataclasses.replace(process, prediction=prediction).eps_error_weight(gamma)

    return weigh


WEIGHTINGS: dict[str, Weigh | None] = {
    "simple": None,
    "bound": _bound,
    "sigmoid": _sigmoid,
    "min_snr": _min_snr,
    "edm": _edm,
    "truncated_snr": _truncated_snr,
    **{name: _unit(name) for name in ("eps", "x0", "v", "velocity")},
}


def check(model: Any) -> None:
    """Raise UserError for a weighting that is unknown, or constants that weigh nothing."""
    check_choice("model.loss_weighting", model.loss_weighting, WEIGHTINGS)
    if not model.min_snr > 0:
        raise UserError(f"config.model.min_snr={model.min_snr} must be positive")


def of_output(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
    """The weight of a squared error of the network's output, [batch]."""
    weigh = WEIGHTINGS[model.loss_weighting]
    if weigh is None:
        return jnp.ones_like(gamma)
    return weigh(model, process, gamma, slope) * process.eps_error_weight(gamma)


def of_eps(model: Any, process: Process, gamma: Array, slope: Array) -> Array:
    """The weight of a squared error of eps, [batch]."""
    return of_output(model, process, gamma, slope) / process.eps_error_weight(gamma)
