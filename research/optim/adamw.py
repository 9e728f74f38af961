"""AdamW (Loshchilov & Hutter 2019): moments of the gradient, decay apart from them."""

import optax

RANGES = {"b1": (0, 1), "b2": (0, 1), "eps": (0, float("inf"))}


def default_train():
    return dict(b1=0.9, b2=0.95, eps=1e-8)


def transform(settings, parameters):
    del parameters
    return optax.scale_by_adam(settings.b1, settings.b2, settings.eps)
