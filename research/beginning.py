"""Where a run begins. A state is looked for in this order, here and nowhere else:

1. the run's own newest sound checkpoint: it goes on;
2. the trunk's at the step where the run leaves it;
3. another run's parameters where `config.init_from.run` names one: all of them, or those whose
   path matches one of `init_from.parts`; what that run does not have is drawn at random, and said.
   It may be a folder of Hugging Face's `transformers`;
4. parameters drawn at random from `config.seed`.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from orbax.checkpoint import CheckpointManager

from research import families, programs
from research.errors import UserError, nearest
from research.optim.roles import path_name
from research.optim.settings import matches
from research.run import checkpoint, lease, record
from research.run.rows import FILE, Row, read_rows

log = logging.getLogger("research")


@dataclasses.dataclass(frozen=True)
class Branch:
    """A run's place on a trunk: the trunk's folder and the step at which the run leaves it."""

    folder: Path
    step: int


@dataclasses.dataclass(frozen=True)
class Begun:
    """The state that a run goes on from.

    Attributes:
        start: steps that the state has behind it.
        meta: what its checkpoint says beside the arrays; nothing for a fresh state.
        branch: where the run left a trunk, if it did.
        own: whether the checkpoint is the run's own.
        earlier: the rows of the trunk.
    """

    start: int
    state: dict[str, Any]
    meta: dict[str, Any]
    branch: Branch | None = None
    own: bool = False
    earlier: list[Row] = dataclasses.field(default_factory=list)

    @property
    def first(self) -> int:
        """The step at which the run's own work begins."""
        return self.branch.step if self.branch else 0


def state(
    config: ConfigDict,
    folder: Path,
    checkpoints: CheckpointManager,
    program: programs.Programs,
    branch: Branch | None,
    held: lease.Hold,
) -> Begun:
    """Return the state from which the run of `config` in `folder` goes on; see the module.

    Raises:
        UserError: when a checkpoint cannot be read, or another run's parameters do not fit.
    """
    shapes, begun = programs.saved(program.state), None
    if found := checkpoint.restore_newest(checkpoints, shapes):
        meta = found[2]
        if "branch" in meta:  # it may have begun before, or after, its trunk was shared
            trunk, step = meta["branch"]
            branch = Branch(folder.parent / trunk, step) if trunk else None
        begun = Begun(*found, branch, own=True)
    elif branch:
        trunk = checkpoint.reader(branch.folder / "checkpoints")
        if found := checkpoint.restore_newest(trunk, shapes, last=branch.step):
            begun = Begun(*found, branch)  # an earlier step where it is damaged: they are one run
        else:
            where = branch.folder
            log.warning("%s has no sound checkpoint; what left it trains from step 0", where)
    if begun is None:
        begun = Begun(0, _fresh(config, program), {})
        _keep_reference(folder, begun.state, held)
    elif "reference" in program.state:
        home = begun.branch.folder if begun.branch else folder
        begun.state["reference"] = _reference(home, program.state["reference"])
    if begun.branch:
        begun = dataclasses.replace(begun, earlier=_trunk_rows(begun.branch))
    return begun


def _fresh(config: ConfigDict, program: programs.Programs) -> dict[str, Any]:
    """A state with nothing behind it, in which `config.init_from` took the place of chance."""
    fresh, chosen = program.init(jax.random.key(config.seed)), config.init_from
    if chosen.run:
        theirs, family = _params(config, chosen.run), families.load(config.family)
        if hasattr(family, "adopted"):
            theirs = family.adopted(config, theirs)
        params = _transplant(fresh["params"], theirs, chosen.run, chosen.parts, "run")
        fresh = program.begin(params)
    if chosen.reference:
        run, theirs = chosen.reference, _params(config, chosen.reference)
        fresh["reference"] = _transplant(fresh["reference"], theirs, run, ("*",), "reference")
    return fresh


def _transplant(tree: Any, params: Any, run: str, parts: tuple[str, ...], key: str) -> Any:
    """`tree` with the `params` of `run` in the place of those whose path matches `parts`.

    Raises:
        UserError: when no path matches, or an array of the run has another shape.
    """
    theirs = {path_name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(params)}
    ours = jax.tree_util.tree_leaves_with_path(tree)
    names, absent, leaves = [path_name(path) for path, _ in ours], [], []
    for part in parts:
        if not any(matches(name, (part,)) for name in names):
            raise UserError(
                f"config.init_from.parts: {part!r} matches no parameter{nearest(part, names)}"
            )
    for name, (_, leaf) in zip(names, ours, strict=True):
        wanted = matches(name, parts)
        found = theirs.get(name) if wanted else None
        if found is not None and found.shape != leaf.shape:
            raise UserError(
                f"config.init_from.{key}={run}: its {name} is {list(found.shape)}, this network's "
                f"{list(leaf.shape)}; name the parts that fit in config.init_from.parts"
            )
        if wanted and found is None:
            absent.append(name)
        leaves.append(leaf if found is None else jax.device_put(found, leaf.sharding))
    if len(absent) == len(names):
        raise UserError(f"config.init_from.{key}={run}: it has none of this network's parameters")
    if absent:
        log.warning("%s does not have %s: drawn at random", run, ", ".join(absent))
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _params(config: ConfigDict, run: str) -> Any:
    """The parameters of a run, or of a folder of `transformers` (`research.hub`)."""
    from research import hub, trained
    from research.hub import folder

    if not folder.there(run):
        return trained.load(run)[1]
    theirs = folder.read_config(run)[1]
    for key, (ours, other) in hub.differences(config.model, theirs).items():
        log.warning("config.model.%s=%r, and by %s it is %r", key, ours, run, other)
    return folder.read(run, config)


def _keep_reference(folder: Path, state: dict[str, Any], held: lease.Hold) -> None:
    """Save what never changes once, beside the checkpoints of what does."""
    if "reference" in state:
        with checkpoint.writer(folder / "reference", (0,), 1, held) as kept:
            checkpoint.save(kept, 0, state["reference"], {}, held)


def _reference(folder: Path, shapes: Any) -> Any:
    found = checkpoint.restore_newest(checkpoint.reader(folder / "reference"), shapes)
    if found is None:
        raise UserError(
            f"{folder / 'reference'} has no sound checkpoint of the frozen reference: restore it, "
            f"or delete {folder} to train the run again"
        )
    return found[1]


def _trunk_rows(branch: Branch) -> list[Row]:
    """The rows of the trunk, as many as its result says where it has one: it may be going on."""
    path, metrics = branch.folder / "result.json", branch.folder / FILE

    def count() -> int | None:
        return record.read_json(path).get("rows") if path.exists() else None

    expected = count()
    try:
        return read_rows(metrics, expected)
    except UserError:
        if expected == count():
            raise
        return read_rows(metrics)
