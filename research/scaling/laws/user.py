"""A user's own law, from a file outside the package."""

import importlib.util
import sys
from pathlib import Path

from research.errors import UserError, nearest
from research.scaling.laws.law import Law


def load(path: str | Path) -> Law:
    """Run the Python file at `path` and return its constant LAW.

    Raises:
        UserError: when there is no such file, it does not run, or its LAW is missing or no Law.
    """
    path = Path(path)
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.py")])
        raise UserError(f"--law: no file {path}{near}")
    spec = importlib.util.spec_from_file_location(f"user_law_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--law: {path}: expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UserError(f"--law: {path}: {type(error).__name__}: {reason}") from error
    law = getattr(module, "LAW", None)
    if law is None:
        near = nearest("LAW", [n for n in vars(module) if isinstance(getattr(module, n), Law)])
        raise UserError(f"--law: {path} has no constant LAW{near}")
    if not isinstance(law, Law):
        raise UserError(
            f"--law: {path}: LAW is a {type(law).__name__}; expected a research.scaling.laws.Law"
        )
    return _checked(law, path)


def _checked(law: Law, path: Path) -> Law:
    """The law, if the engine can fit it."""
    if not isinstance(law.name, str):
        raise UserError(f"--law: {path}: LAW has the name {law.name!r}; expected a text")
    if bool(law.terms) == (law.function is not None):
        raise UserError(f"--law: {path}: LAW needs either terms or a function")
    kinds = ("floor", "coefficient", "scale", "exponent")
    for parameter in law.parameters:
        where = f"--law: {path}: parameter {parameter.name!r}"
        if parameter.kind not in kinds:
            near = nearest(parameter.kind, kinds)
            raise UserError(f"{where}: kind {parameter.kind!r}{near}; one of {', '.join(kinds)}")
        if not parameter.low < parameter.high:
            raise UserError(f"{where}: low {parameter.low:g} is not below high {parameter.high:g}")
        if not (parameter.linear or parameter.grid or law.terms):
            raise UserError(f"{where}: a {parameter.kind} needs a grid to start from")
        if parameter.within and parameter.within not in law.variables:
            near = nearest(parameter.within, law.variables)
            raise UserError(f"{where}: within {parameter.within!r} is no variable of LAW{near}")
    return law
