"""The laws by name. A new one is a file here and a line in LAWS."""

from research.errors import UserError, nearest
from research.scaling.laws.architecture import ARCHITECTURE_LAWS
from research.scaling.laws.curves import CURVE_LAWS, M1, M2
from research.scaling.laws.data import DATA_LAWS, MUENNIGHOFF, OVERTRAINING
from research.scaling.laws.law import Law, Parameter, Term
from research.scaling.laws.mixture import mixture
from research.scaling.laws.power import CHINCHILLA, FRONTIER, POWER, SIZE, SIZE_POWER
from research.scaling.laws.recipe import RECIPE_LAWS
from research.scaling.laws.surface import SURFACE_LAWS
from research.scaling.laws.user import load
from research.scaling.laws.variants import SIGNED_LAWS, restrict

__all__ = [
    "ADDITIVE",
    "CHINCHILLA",
    "FRONTIER",
    "LAWS",
    "MUENNIGHOFF",
    "OVERTRAINING",
    "POWER",
    "SIGNED_LAWS",
    "SIZE",
    "WITHOUT_FLOOR",
    "WITH_FLOOR",
    "Law",
    "Parameter",
    "Term",
    "get",
    "mixture",
    "named",
    "restrict",
]

LAWS = {
    law.name: law
    for law in (
        CHINCHILLA,
        FRONTIER,
        POWER,
        SIZE,
        SIZE_POWER,
        *DATA_LAWS,
        *CURVE_LAWS,
        *RECIPE_LAWS,
        *ARCHITECTURE_LAWS,
        *SURFACE_LAWS,
    )
}

# The sum of a power of N and one of D, which has a best size for so much compute.
ADDITIVE = (CHINCHILLA.name, f"signed_{CHINCHILLA.name}")
# Of one variable, a power of it with and without a floor.
WITH_FLOOR = {"C": FRONTIER, "N": SIZE, "D": M2}
WITHOUT_FLOOR = {"C": POWER, "N": SIZE_POWER, "D": M1}


def named(name: str) -> Law | None:
    """The law of LAWS or SIGNED_LAWS called `name`, or `mixture:DOMAINS`; None without one.

    Names that a file holds are looked up here: nothing is ever run for the sake of one.

    Raises:
        UserError: a number of domains out of range.
    """
    kind, _, domains = name.partition(":")
    if kind == "mixture" and domains.isdecimal():
        return mixture(int(domains[:9]))
    return LAWS.get(name) or SIGNED_LAWS.get(name)


def get(name: str) -> Law:
    """Return the law that a command line calls `name`: as `named`, or of a file `path/to/law.py`.

    Raises:
        UserError: when there is no such law (the nearest is named), or a file's law has the name
            of one of ours.
    """
    law = named(name)
    if law is None and (name.endswith(".py") or "/" in name):
        law = load(name)
        if named(law.name):
            raise UserError(f"--law: {name}: LAW is called {law.name!r}, as one of ours is: rename")
    if law is None:
        raise UserError(
            f"--law: no law {name!r}{nearest(name, [*LAWS, *SIGNED_LAWS, 'mixture:2'])}; one of"
            f" {', '.join([*LAWS, *SIGNED_LAWS])}, mixture:DOMAINS, or a Python file with a"
            " constant LAW"
        )
    return law
