"""Compute-optimal size and data of E + A/N^alpha + B/D^beta, with FLOPs as they were counted."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray | float


@dataclass(frozen=True)
class FlopsModel:
    """C = factor * N^power * D: what the table's own FLOPs say, or 6ND (Kaplan 2020) without them.

    At laptop sizes attention, head and embeddings make the power differ from one, and an image
    counts as many FLOPs as it has patches: 6ND would put the optimum in the wrong place.
    """

    factor: float = 6.0
    power: float = 1.0

    def flops(self, params: Numbers, data: Numbers) -> Any:
        """Training FLOPs of `params` parameters on `data`."""
        return self.factor * params**self.power * data

    def data(self, flops: Numbers, params: Numbers) -> Any:
        """Data that `flops` buy a model of `params` parameters."""
        return flops / (self.factor * params**self.power)

    def params(self, flops: Numbers, data: Numbers) -> Any:
        """Parameters of the model that spends `flops` on `data`."""
        return (flops / (self.factor * data)) ** (1 / self.power)


def flops_model(params: np.ndarray, data: np.ndarray, flops: np.ndarray) -> FlopsModel:
    """Least squares of log(C / D) on log N; plain `factor * ND` where that is within 1%.

    6ND where the table does not say (nan).
    """
    if not np.isfinite(params * data * flops).all():
        return FlopsModel()
    each = np.log(flops / data)
    flat = each - np.log(params)
    if np.ptp(flat) < 0.01 or np.ptp(np.log(params)) < 0.1:
        return FlopsModel(float(np.exp(flat.mean())), 1.0)
    power, offset = np.polyfit(np.log(params), each, 1)
    return FlopsModel(float(np.exp(offset)), float(power))


@dataclass(frozen=True)
class Optimum:
    """The size and data that spend `flops` best, and the loss there; each interval is (low, high).

    N_opt is proportional to C^params_exponent and D_opt to C^data_exponent.
    """

    flops: float
    params: float
    data: float
    loss: float
    params_interval: tuple[float, float]
    data_interval: tuple[float, float]
    loss_interval: tuple[float, float]
    params_exponent: float
    data_exponent: float
    params_exponent_interval: tuple[float, float]
    data_exponent_interval: tuple[float, float]


def optimum(parameters: np.ndarray, flops: float, model: FlopsModel) -> np.ndarray:
    """[..., 5]: N_opt, D_opt, loss, exponents of N_opt and D_opt, for parameters [..., 5].

    Hoffmann 2022 equation 4 with D = C / (factor N^p): setting dL/dN = 0 along the budget gives
    alpha A N^-alpha = p beta B D^-beta, that is
    N^(alpha + p beta) = alpha A / (p beta B) (C / factor)^beta.
    """
    floor, a, b, alpha, beta = np.moveaxis(np.asarray(parameters, float), -1, 0)
    power = model.power
    total = alpha + power * beta
    log_params = np.log(alpha * a / (power * beta * b)) + beta * np.log(flops / model.factor)
    params = np.exp(log_params / total)
    data = model.data(flops, params)
    loss = floor + a * params**-alpha + b * data**-beta
    return np.stack([params, data, loss, beta / total, 1 - power * beta / total], -1)
