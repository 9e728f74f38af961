"""A frozen teacher: another run's network beside the trained one, and whether the two fit."""

from typing import Any

from research import config as configs
from research.errors import UserError
from research.families.diffusion import denoiser
from research.models import common
from research.run import storage

# Of config.model, what a student may have otherwise than its teacher, beside what its objective
# and its teacher's read: which noise levels it learns at, not what the network is.
OWN = ("objective", "schedule", "gamma_mean", "gamma_std")


def parameters(config: Any, params: common.Params) -> common.Params:
    """Of `params` what a network has that is given one time, for a teacher's to fill."""
    return _within(params, denoiser.axes(config, two_times=False))


def _within(tree: Any, names: Any) -> Any:
    if not isinstance(names, dict):
        return tree
    return {key: _within(tree[key], names[key]) for key in names}


def check(config: Any, used: bool = True) -> dict[str, Any]:
    """The `config.model` of the teacher; nothing where there is none.

    Args:
        used: whether the objective asks for a teacher.

    Raises:
        UserError: for a teacher that is asked for and not named, or the other way round, and for
            one whose network, process or range of noise is another.
    """
    folder, of = config.init_from.reference, f"objective {config.model.objective!r}"
    if used and not folder:
        raise UserError(
            f"config.init_from.reference is empty: {of} needs the folder of a trained run there, "
            "its teacher"
        )
    if folder and not used:
        raise UserError(f"config.init_from.reference={folder}: {of} is set to learn of no teacher")
    path = storage.path(folder) if folder else None
    if path is None or not (path / "config.json").exists():
        return {}  # a folder that is no run is refused where all beginnings are
    theirs = configs.read(path)
    if theirs.get("family") != "diffusion":
        raise UserError(
            f"config.init_from.reference={folder} is of family {theirs.get('family')!r}, and a "
            "teacher of diffusion must be of family 'diffusion'"
        )
    _check_same(config.model, theirs["model"], folder)
    return theirs["model"]


def _check_same(model: Any, theirs: dict[str, Any], folder: str) -> None:
    """Raise UserError for the first key in which student and teacher may not differ."""
    free = {*OWN, *denoiser.objective_keys(model.objective)}
    free |= denoiser.objective_keys(theirs["objective"])
    for key in model:
        if key in free or key not in theirs:
            continue
        ours, other = (tuple(v) if isinstance(v, list) else v for v in (model[key], theirs[key]))
        if ours != other:
            raise UserError(
                f"config.model.{key}={ours!r} must be {other!r}, as config.init_from.reference="
                f"{folder} has it: a student sees and predicts what its teacher does"
            )
