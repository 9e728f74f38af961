"""Mixtures of domains (Ye 2024): one validation loss as a function of the training shares."""

import functools

from research.errors import UserError
from research.scaling.laws.law import Law, Parameter
from research.scaling.laws.numerics import numerics

MAX_DOMAINS = 12


def _mixed(num_domains, p, v):
    xp = numerics(p, v)
    names = range(1, num_domains)
    return p["c"] + p["k"] * xp.exp(sum(p[f"t_{j}"] * v[f"r_{j}"] for j in names))


@functools.cache
def mixture(num_domains: int) -> Law:
    """The law of a mixture of `num_domains` domains, shares r_1 to r_(num_domains - 1).

    The shares sum to one, so adding a constant to every t_j only rescales k: the last domain's t
    is taken as 0 and its share is not read. Ye's k and t_j are k exp(-t_last) and t_j + t_last.

    Raises:
        UserError: when `num_domains` is not between 2 and 12.
    """
    if not 2 <= num_domains <= MAX_DOMAINS:
        raise UserError(
            f"--law: mixture:{num_domains}: expected a number of domains from 2 to {MAX_DOMAINS}"
        )
    grid = (-2.0, -0.3, 1.0) if num_domains < 6 else (-1.0, 0.5) if num_domains < 10 else (-0.3,)
    slopes = [
        Parameter(f"t_{j}", "exponent", "1 / share", -50.0, 50.0, grid)
        for j in range(1, num_domains)
    ]
    return Law(
        name=f"mixture:{num_domains}",
        formula=f"L(r) = c + k exp(sum_j t_j r_j), j = 1 to {num_domains - 1}",
        source="Ye 2024, equation 7",
        parameters=(
            Parameter("c", "floor", "loss"),
            Parameter("k", "coefficient", "loss"),
            *slopes,
        ),
        variables=tuple(f"r_{j}" for j in range(1, num_domains)),
        minimum_rows=num_domains + 3,
        function=functools.partial(_mixed, num_domains),
    )
