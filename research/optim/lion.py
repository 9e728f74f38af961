"""Lion (Chen et al. 2023, algorithm 2): the sign of a momentum; wants a smaller rate than AdamW."""

import optax

RANGES = {"b1": (0, 1), "b2": (0, 1)}


def default_train():
    return dict(b1=0.9, b2=0.99)


def transform(settings, parameters):
    del parameters
    return optax.scale_by_lion(settings.b1, settings.b2)
