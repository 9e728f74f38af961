"""The laws by name. A new one is a file here and a line in LAWS."""

from research.errors import UserError, nearest
from research.scaling.laws.law import Law, Parameter, Term
from research.scaling.laws.power import CHINCHILLA, FRONTIER, POWER

__all__ = ["CHINCHILLA", "FRONTIER", "LAWS", "POWER", "Law", "Parameter", "Term", "get"]

LAWS = {law.name: law for law in (CHINCHILLA, FRONTIER, POWER)}


def get(name: str) -> Law:
    """Return the law called `name`.

    Raises:
        UserError: when there is no such law; the nearest is named.
    """
    if name not in LAWS:
        raise UserError(f"--law: no law {name!r}{nearest(name, LAWS)}; one of {', '.join(LAWS)}")
    return LAWS[name]
