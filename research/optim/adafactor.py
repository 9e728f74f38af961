"""Adafactor (Shazeer & Stern 2018): second moments of a matrix kept as a row and a column.

With a momentum and without the scale of each parameter, as Zhai et al. (2022, section 3.4) have it,
so that rates mean what they do for AdamW.
"""

import optax

RANGES = {
    "momentum": (0, 1),
    "decay_rate": (0, 1),
    "clip_rms": (0, float("inf")),
    "factored_from": (1, 2**31),
}


def default_train():
    return dict(
        momentum=0.9,
        decay_rate=0.8,  # of the second moment at step t: 1 - t^-decay_rate
        clip_rms=1.0,  # of a parameter's update
        factored_from=128,  # the second largest axis that is worth factoring
    )


def transform(settings, parameters):
    del parameters
    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=settings.decay_rate, min_dim_size_to_factor=settings.factored_from
        ),
        optax.clip_by_block_rms(settings.clip_rms),
        optax.ema(settings.momentum, debias=False),
    )
