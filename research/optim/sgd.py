"""Stochastic gradient descent with momentum (Sutskever et al. 2013), Nesterov's where asked."""

import optax

KEYS = {"momentum": 0.9, "nesterov": False}
RANGES = {"momentum": (0, 1)}


def transform(settings, parameters):
    del parameters
    return optax.trace(settings.momentum, settings.nesterov)
