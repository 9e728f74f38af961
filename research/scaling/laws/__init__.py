"""The laws by name. A new one is a file here and a line in LAWS."""

from research.errors import UserError, nearest
from research.scaling.laws.architecture import ARCHITECTURE_LAWS
from research.scaling.laws.curves import CURVE_LAWS, M1, M2
from research.scaling.laws.data import DATA_LAWS, MUENNIGHOFF, OVERTRAINING
from research.scaling.laws.distillation import DISTILLATION_LAWS
from research.scaling.laws.farseer import FARSEER
from research.scaling.laws.kaplan import KAPLAN
from research.scaling.laws.law import Law, Parameter, Term
from research.scaling.laws.mixture import mixture
from research.scaling.laws.power import CHINCHILLA, FRONTIER, POWER, SIZE, SIZE_POWER
from research.scaling.laws.recipe import RECIPE_LAWS
from research.scaling.laws.restrict import restrict
from research.scaling.laws.user import load

__all__ = [
    "CHINCHILLA",
    "FRONTIER",
    "LAWS",
    "MUENNIGHOFF",
    "OVERTRAINING",
    "POWER",
    "SIZE",
    "WITHOUT_FLOOR",
    "WITH_FLOOR",
    "Law",
    "Parameter",
    "Term",
    "get",
    "mixture",
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
        KAPLAN,
        *DATA_LAWS,
        *CURVE_LAWS,
        *RECIPE_LAWS,
        *ARCHITECTURE_LAWS,
        FARSEER,
        *DISTILLATION_LAWS,
    )
}

# Of one variable, a power of it with and without a floor.
WITH_FLOOR = {"C": FRONTIER, "N": SIZE, "D": M2}
WITHOUT_FLOOR = {"C": POWER, "N": SIZE_POWER, "D": M1}


def get(name: str) -> Law:
    """Return the law called `name`: of LAWS, `mixture:DOMAINS`, or a file `path/to/law.py`.

    Raises:
        UserError: when there is no such law; the nearest is named.
    """
    if name in LAWS:
        return LAWS[name]
    if name.endswith(".py") or "/" in name:
        return load(name)
    kind, _, domains = name.partition(":")
    if kind == "mixture" and domains.isdecimal():
        return mixture(int(domains))
    known = [*LAWS, "mixture:2"]
    raise UserError(
        f"--law: no law {name!r}{nearest(name, known)}; one of {', '.join(LAWS)}, "
        "mixture:DOMAINS, or a Python file with a constant LAW"
    )
