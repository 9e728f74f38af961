"""Stochastic gradient descent with momentum (Sutskever et al. 2013), Nesterov's where asked."""

import optax

RANGES = {"momentum": (0, 1)}


def default_train():
    return dict(momentum=0.9, nesterov=False)


def step_kind(settings, parameter):
    """They are as large as the gradient (`parametrization.Weight`)."""
    del settings, parameter
    return "gradient"


def transform(settings, parameters):
    del parameters
    return optax.trace(settings.momentum, settings.nesterov)
