"""Families of generative models, one module each, all behind the same pure functions.

A family is a module with

    default_model() -> the keys of config.model
    init(config, key) -> params
    loss(config, params, batch, key, step) -> (scalar, metrics)
    score(config, params, batch, key) -> {name: {"total": summed bits, "count": bytes or pixels}}
    score_kinds(config) -> {name: {"unit", "kind", "better"}}, the first its main one; kind is
        "exact", "upper bound", "lower bound" or "estimate", better is "lower" or "higher"

where params is any pytree of dicts, lists and tuples; and, where it needs them,

    sample(config, params, key, num) -> array; a family that only judges has none
    axes(config) -> logical axis names of its parameters
    check(config, spec) raises UserError before any compile; `spec` is the data's
    default_sampling(), default_evaluation() -> the keys it reads there
    default_train() -> keys of config.train, such as the optimizer, that it wants otherwise
    init_optimizer(config, params), update(config, state, batch, key, step, learning_rate)
        when its step is not one gradient of `loss`: two players, inner sampling chains
    memory(config, params) -> arrays that its `update` hands from step to step as
        state["memory"], beside parameters and optimizer: chains, or how likely an augmentation is
    reference(config, params) -> parameters that lie frozen beside the trained ones, made from
        those that training begins with or filled by config.init_from.reference, or None; `loss`
        then takes them as `reference`
    adopted(config, params) -> the parameters of the run that config.init_from.run names, as this
        one names its own, where these are several networks
    PARTS -> the parts it is made of, such as {"network": table} (`research.parts`)
    positions(config) -> how many positions the network processes for one example, where these
        are not the tokens of a text
    network_calls(config) -> how often drawing one sample by config.sampling calls the network
    pins(model) -> keys of config.model, as long as they are empty, that say the state of what it
        reads from elsewhere, such as the hash of a frozen run: another state is another config
    bounds(config, params, batch, key, shared) -> {name: nats of each example}, bound_kinds(config)
        -> {name: kind}, before_bounds(config, params, key) -> shared: what is known of -log p from
        above and from below (`research.evaluation.likelihood_bounds`)
    limits(config) -> {failure: Limit}: where its scores and metrics lie unless a run has failed
        (`research.failures`)
    unread_flops(config) -> FLOPs of one example by name scope, where a loop of unknown length or
        a kernel hides them from the ledger (`research.cost`)

Programs are shared by runs of one shape. So init, loss, score and update may read any key of the
config but those in which such runs differ (`research.programs.ARGUMENTS` and `UNREAD`, such as
config.train.steps and config.seed): reading one is an error. What changes along a run goes by
`step`, the number of steps before this one.
"""

from types import ModuleType
from typing import Any

import jax
from ml_collections import ConfigDict

from research import mesh, parts
from research.errors import UserError

FAMILIES = {
    "autoencoder": "research.families.autoencoder",
    "autoregressive": "research.families.autoregressive",
    "classic": "research.families.classic",
    "classifier": "research.families.classifier",
    "clip": "research.families.clip",
    "diffusion": "research.families.diffusion",
    "discrete_diffusion": "research.families.discrete_diffusion",
    "energy": "research.families.energy",
    "flow": "research.families.flow",
    "gan": "research.families.gan",
}
PROTOCOL = ("default_model", "init", "loss", "score", "score_kinds")


def load(name: str) -> ModuleType:
    """Return the family `name`: one of FAMILIES, or the dotted path of any module.

    Raises:
        UserError: for an unknown name, or a module that lacks part of the protocol.
    """
    return parts.load("family", name, FAMILIES, PROTOCOL)


def axes(config: ConfigDict, params: Any) -> list[tuple[str | None, ...]]:
    """The logical axes of each leaf of `params`, in their order; unnamed where no name is given."""
    family = load(config.family)
    if hasattr(family, "axes"):
        # A step is traced under a mesh, which names of axes do not depend on; a pipeline would cut
        # the one example from which a network has them into micro-batches.
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return jax.tree.leaves(family.axes(config), is_leaf=mesh.is_axes)
    return [(None,) * leaf.ndim for leaf in jax.tree.leaves(params)]


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for parts or a family that cannot be built, or that the data do not fit."""
    family = load(config.family)
    if config.sampling.get("num", 0) and not hasattr(family, "sample"):
        raise UserError(
            f"config.sampling.num={config.sampling.num} must be 0: family {config.family!r} draws "
            "no samples"
        )
    parts.check(family, config)
    if hasattr(family, "check"):
        family.check(config, spec)
