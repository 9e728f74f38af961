"""Schedule-free AdamW (Defazio et al. 2024): an average of the iterates in place of a decay.

Gradients are taken between the iterates z and their average x, at y = (1 - b1) z + b1 x: these are
the run's parameters, while it is scored and sampled with x. Such a run has no cooldown to branch
into: a constant rate is asked for, and each horizon is a run of its own, without a trunk.
"""

import jax
import optax
from optax import contrib

from research.errors import UserError

RANGES = {
    "b1": (0, 1),
    "b2": (0, 1),
    "eps": (0, float("inf")),
    "weight_power": (0, float("inf")),  # of the rate, in an iterate's weight in the average
}


def default_train():
    return dict(b1=0.9, b2=0.999, eps=1e-8, weight_power=2.0)


def check(train):
    """Raise UserError for what averages or decays a second time."""
    if train.b1 == 0:
        raise UserError("config.train.b1=0.0 must be positive: gradients are taken off the average")
    if train.schedule != "constant" or train.ema_decay or train.ema_widths:
        raise UserError(
            f"config.train.optimizer='schedule_free' averages by itself, so schedule="
            f"{train.schedule!r}, ema_decay={train.ema_decay} and ema_widths={train.ema_widths} "
            "must be 'constant', 0 and ()"
        )


def transform(settings, parameters):
    del parameters
    return optax.scale_by_rms(settings.b2, settings.eps, eps_in_sqrt=False, bias_correction=True)


def wrap(settings, inner, parameters):
    """`inner`, the whole of an optimizer but its rate, whose steps move z."""
    del parameters

    def around(rate):
        base = optax.chain(inner, optax.scale_by_learning_rate(rate))
        return contrib.schedule_free(base, rate, settings.b1, settings.weight_power)

    def update(grads, state, params=None, *, learning_rate, **extra):
        steps, state = around(learning_rate).update(grads, state, params, **extra)
        return jax.tree.map(lambda step: -step / learning_rate, steps), state

    return optax.GradientTransformationExtraArgs(around(0.0).init, update)


def evaluated(opt_state, params):
    """The average x of `params`, which are y."""
    return contrib.schedule_free_eval_params(opt_state, params)
