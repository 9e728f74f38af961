"""How much of a text is noise at each time, and the times at which it is looked at.

A schedule is h(t) = 1 - alpha(t), the share of noise, rising from 0 to 1 over t in [0, 1]. The
continuous bound does not depend on it (Kingma 2021; Shi 2024, section 3), a process in steps does.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

SCHEDULES = ("linear", "cosine", "polynomial")


class Level(NamedTuple):
    """Where on its way to noise each block of each text is, [B, K] of K blocks.

    Attributes:
        share: of noise, h(t).
        slope: dh / dt; of a process in steps, h(t) - h(s) times the number of steps.
        lower: h(s), of the step before; None in continuous time.
    """

    share: Any
    slope: Any
    lower: Any = None


def share(name: str, power: float, times: Any) -> Any:
    """h(t): t, t^power (Shi 2024, table 1), or that of a quarter of a cosine (Chang 2022)."""
    if name == "cosine":
        return jnp.cos(np.pi / 2 * (1 - times))
    return times**power if name == "polynomial" else times


def level(model: Any, times_BxK: jax.Array) -> Level:
    """The levels at times of the model's schedule in continuous time."""

    def of(time):
        return share(model.schedule, model.schedule_power, time)

    found, slope = jax.jvp(of, (times_BxK,), (jnp.ones_like(times_BxK),))
    return Level(found, slope)


def level_in_steps(model: Any, times_BxK: jax.Array, steps: int) -> Level:
    """The levels at the ends of those of `steps` equal steps in which the times lie."""
    index = jnp.minimum(jnp.floor(times_BxK * steps), steps - 1)
    lower, upper = (
        share(model.schedule, model.schedule_power, (index + end) / steps) for end in (0, 1)
    )
    return Level(upper, steps * (upper - lower), lower)


def mean_share(model: Any) -> float:
    """The mean of h(t) over time."""
    means = {"linear": 1 / 2, "cosine": 2 / np.pi, "polynomial": 1 / (model.schedule_power + 1)}
    return means[model.schedule]


def stratified(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Times in [0, 1): each is uniform, together they are evenly spaced (Kingma 2021, app. I.1).

    Along the first axis those at any one place of the others are evenly spaced, too.
    """
    count = int(np.prod(shape))
    grid = jnp.arange(count, dtype=jnp.float32).reshape(shape) / count
    return jnp.mod(jax.random.uniform(key) + grid, 1.0)
