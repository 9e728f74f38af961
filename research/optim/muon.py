"""Muon (Jordan et al. 2024): hidden matrices move by their momentum made orthogonal.

Everything else, tables, heads and scalars, moves by Adam. An update's root mean square is
`update_rms`, about AdamW's (Liu et al. 2025, eq. 4), so that one learning rate serves both.
"""

import math

import optax
from optax import contrib

from research.optim import adamw
from research.optim.roles import map_names

RANGES = {
    "momentum": (0, 1),
    "newton_schulz_steps": (1, 100),
    "update_rms": (0, float("inf")),
    **adamw.RANGES,
}


def default_train():
    return dict(momentum=0.95, newton_schulz_steps=5, update_rms=0.2, **adamw.default_train())


def transform(settings, parameters):
    def matrices(tree):
        """The axes that each matrix reads and writes; those left are one matrix after another."""
        numbers = contrib.MuonDimensionNumbers
        return map_names(lambda n, _: numbers(parameters[n].reads, parameters[n].writes), tree)

    def kinds(tree):
        hidden = {name for name, each in parameters.items() if each.role == "hidden"}
        return map_names(lambda name, _: "hidden" if name in hidden else "others", tree)

    orthogonal = contrib.scale_by_muon(
        beta=settings.momentum,
        ns_steps=settings.newton_schulz_steps,
        weight_dimension_numbers=matrices,
    )

    def scaled(updates, params):
        del params

        def one(name, x):
            sides = (parameters[name].reads, parameters[name].writes)
            longer = max(math.prod(x.shape[axis] for axis in side) for side in sides)
            return settings.update_rms * longer**0.5 * x

        return map_names(one, updates)

    others = adamw.transform(settings, parameters)
    return optax.partition(
        {"hidden": optax.chain(orthogonal, optax.stateless(scaled)), "others": others},
        param_labels=kinds,
    )
