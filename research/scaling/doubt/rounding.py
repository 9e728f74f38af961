"""Numbers written with too few digits (check 17).

Hoffmann 2022 printed alpha .34 and beta .28 for .33917 and .28491: that alone moves the best tokens
per parameter at 5.88e23 FLOPs from 59 to 93 (Besiroglu 2024).
"""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

FEW_DIGITS = 4  # significant ones: a parameter written with fewer was rounded by a person


def step(values: np.ndarray) -> float:
    """The largest power of ten, up to 1, that every value is a multiple of; 0 below 1e-6."""
    for places in range(7):
        scaled = values * 10.0**places
        if (np.abs(scaled - np.round(scaled)) <= 1e-9 * np.abs(scaled)).all():
            return 10.0**-places
    return 0.0


def half_steps(parameters: Mapping[str, float]) -> dict[str, float]:
    """Half a unit in the last digit of each parameter; {} unless all have few digits."""
    exact = {name: Decimal(repr(float(value))).normalize() for name, value in parameters.items()}
    if any(len(value.as_tuple().digits) > FEW_DIGITS for value in exact.values()):
        return {}
    return {name: 0.5 * 10.0 ** int(value.as_tuple().exponent) for name, value in exact.items()}
