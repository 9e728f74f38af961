"""Energy-based models: p(x) = exp(-E(x)) / Z of images, whose normaliser few of them know.

    d log p(x) / d theta = -dE(x)/d theta + E_model[dE/d theta]

so that training needs samples of the model, which chains draw, or goes around Z by another
objective. Images are numbers of [-1, 1], levels among them. Where log Z is known exactly the score
is the likelihood; else it is how far samples lie from the data (`sample_distance`), and -log p is
held between two bounds of log Z by annealed importance sampling, forwards and back (`annealed`).
"""

import functools
import math
import sys
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import levels, optim
from research.config import frozen
from research.errors import UserError
from research.failures import Limit
from research.families import sample_distance
from research.families.energy import annealed
from research.mesh import constrain
from research.models import common
from research.parts import part

# An energy is a part with init(model, hardware, key), axes(model, hardware), positions(config) and
#   energy(model, hardware, params, x_BxHxWxC, label, beta) -> E [B] at an inverse temperature,
#       which at beta=0 is that of a base from which `base(model, key, num)` draws, and whose
#       log Z is base_log_z(model)
# and, where they are known, sweep(model, params, x, key, beta) -> x after a step of a chain of its
# own, log_z(model, params) where enumerable(model), draw(model, params, key, num) -> exact samples
# where drawable(model), check_images(model), and class_cost(model, hardware, params, x, label) ->
# -log p(label | x) [B].
ENERGIES = {
    "rbm": "research.families.energy.rbm",
    "pairwise": "research.families.energy.pairwise",
    "neural": "research.families.energy.neural",
}
# A chain is a part with check_energy(config, energy) and
#   move(model, energy, sweep, x, key, beta) -> (x, the share of moves accepted)
CHAINS = {
    "gibbs": "research.families.energy.gibbs",
    "langevin": "research.families.energy.langevin",
    "hmc": "research.families.energy.hamiltonian",
}
# An objective is a part with value(config, params, x, label, memory, key) -> (nats an image,
# metrics, memory), and check_model(config), memory(config) -> arrays that go from step to step,
# and init(model) -> parameters of its own, where it needs them.
OBJECTIVES = {
    "contrastive": "research.families.energy.contrastive",
    "noise_contrastive": "research.families.energy.noise_contrastive",
    "score_matching": "research.families.energy.score_matching",
}
PARTS = {"energy": ENERGIES, "chain": CHAINS, "objective": OBJECTIVES}
_SELF = sys.modules[__name__]
BLOCK = 64  # moves of a chain that a sampler compiles as one


def default_model() -> ConfigDict:
    """Keys of `config.model` beside those of its parts."""
    return ConfigDict(
        dict(
            energy="neural",
            chain="langevin",
            objective="contrastive",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # levels, not floats
            levels=256,  # of a discrete image
            num_classes=0,  # 0: no label is read
        )
    )


def default_train() -> dict[str, Any]:
    """No decay of weights, which are what the energies are made of."""
    return dict(optimizer="adamw", weight_decay=0.0)


def default_sampling() -> dict[str, Any]:
    """Keys of `config.sampling`: moves of the chain that an image is drawn by, from the base."""
    return dict(moves=500)


def default_evaluation() -> dict[str, Any]:
    """Keys of `config.evaluation`: of annealed importance sampling, and of chains in scores."""
    return dict(temperatures=200, chains=256, score_moves=200)


def energy_part(config: Any) -> ModuleType:
    """The module of the energy that `config.model` names."""
    return part(_SELF, "energy", config.model)


def objective_part(config: Any) -> ModuleType:
    """The module of the objective that `config.model` names."""
    return part(_SELF, "objective", config.model)


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for what the data's `spec` does not fit, or chains that go nowhere."""
    model, of = config.model, energy_part(config)
    levels.check(config, spec)
    if model.num_classes not in (0, spec["num_classes"]):
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be 0 or {spec['num_classes']}, "
            f"the classes of {config.data.name}"
        )
    if hasattr(of, "check_images"):
        of.check_images(model)
    if model.discrete and model.levels != 2:
        raise UserError(
            f"config.model.levels={model.levels}: family 'energy' reads floats, or 2 levels"
        )
    if model.num_classes and not hasattr(of, "class_cost"):
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be 0 for energy={model.energy!r}; "
            "neural tells classes apart"
        )
    part(_SELF, "chain", model).check_energy(config, of)
    if hasattr(objective_part(config), "check_model"):
        objective_part(config).check_model(config)
    if config.sampling.moves < 1:
        raise UserError(
            f"config.sampling.moves={config.sampling.moves}: a chain of no steps draws nothing; it "
            "must be at least 1"
        )
    if config.evaluation.score_moves < 1:
        raise UserError(
            f"config.evaluation.score_moves={config.evaluation.score_moves} must be at least 1"
        )
    for key, least in (("temperatures", 2), ("chains", 2)):
        if config.evaluation[key] < least:
            raise UserError(
                f"config.evaluation.{key}={config.evaluation[key]} must be at least {least}: "
                "annealing goes from one temperature to another, in several chains"
            )


def positions(config: ConfigDict) -> int:
    """Positions that a network processes for one image."""
    return energy_part(config).positions(config)


def init(config: ConfigDict, key: Array) -> common.Params:
    """Parameters of the energy, and those of the objective."""
    params = {"energy": energy_part(config).init(config.model, config.hardware, key)}
    if hasattr(objective_part(config), "init"):
        params["objective"] = objective_part(config).init(config.model)
    return params


def axes(config: ConfigDict) -> common.Params:
    """Logical axes of every parameter."""
    found = {"energy": energy_part(config).axes(config.model, config.hardware)}
    if hasattr(objective_part(config), "init"):
        found["objective"] = jax.tree.map(lambda x: ("norm",), objective_part(config).init(config))
    return found


def energy(config: Any, params: Any, x: Array, label: Any = None, beta: Any = 1.0) -> Array:
    """E of each image, nats [B], of a class where it is told one."""
    with jax.named_scope("energy"):
        of = energy_part(config)
        return of.energy(config.model, config.hardware, params["energy"], x, label, beta)


def move(config: Any, params: Any, x: Array, key: Array, beta: Any = 1.0) -> tuple[Array, Array]:
    """Images after one move of the chain, and the share of its steps that were accepted."""
    of, model = energy_part(config), config.model
    sweep = None
    if hasattr(of, "sweep"):
        sweep = functools.partial(of.sweep, model, params["energy"])
    of_x = functools.partial(energy, config, params)
    with jax.named_scope("chain"):
        return part(_SELF, "chain", model).move(model, of_x, sweep, x, key, beta)


def moves(config: Any, params: Any, x: Array, key: Array, count: int) -> tuple[Array, Array]:
    """Images after `count` moves, and the mean share of steps that were accepted."""

    def one(x: Array, key: Array) -> tuple[Array, Array]:
        x, accepted = move(config, params, x, key)
        return constrain(x, "batch"), accepted

    x, accepted = jax.lax.scan(one, x, jax.random.split(key, count))
    return x, accepted.mean()


def base(config: Any, key: Array, num: int) -> Array:
    """Images of the base that chains and annealing begin at, [num, H, W, C]."""
    return energy_part(config).base(config.model, key, num)


def _read(config: Any, batch: dict) -> tuple[Array, Any]:
    label = batch["label"] if config.model.num_classes else None
    return levels.scaled(batch["image"], config.model.levels), label


def _value(config: Any, params: Any, batch: dict, key: Array, memory: Any) -> Any:
    x, label = _read(config, batch)
    value, metrics, memory = objective_part(config).value(config, params, x, label, memory, key)
    if label is not None:
        of = energy_part(config)
        cost = of.class_cost(config.model, config.hardware, params["energy"], x, label).mean()
        value, metrics = value + cost, metrics | {"class_cost": cost}
    return value / x[0].size, metrics, memory


def memory(config: ConfigDict, params: Any) -> Any:
    """What the objective hands from step to step, such as chains that go on."""
    del params
    of = objective_part(config)
    return of.memory(config) if hasattr(of, "memory") else {}


def loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, dict[str, Any]]:
    """What training lowers, in nats a dimension, with chains that begin anew."""
    del step
    value, metrics, _ = _value(config, params, batch, key, memory(config, params))
    return value, metrics


def update(
    config: ConfigDict, state: dict, batch: dict, key: Array, step: Array, rate: Array
) -> tuple[dict, dict]:
    """One gradient step, after which the memory is what its chains have come to."""

    def with_memory(config, params, batch, key, step):
        del step
        value, metrics, after = _value(config, params, batch, key, state["memory"])
        return value, metrics | {"memory": after}

    state, metrics = optim.update(with_memory, config, state, batch, key, step, rate)
    return {**state, "memory": metrics.pop("memory")}, metrics


def _exact(config: Any) -> bool:
    of = energy_part(config)
    return hasattr(of, "log_z") and of.enumerable(config.model)


def _drawable(config: Any) -> bool:
    of = energy_part(config)
    return hasattr(of, "draw") and of.drawable(config.model)


def _log_z(config: Any, params: Any) -> Array:
    return energy_part(config).log_z(config.model, params["energy"])


def score(config: ConfigDict, params: Any, batch: dict, key: Array) -> dict:
    """Bits of the rows not masked where log Z is known, else the distance of samples from them."""
    x, _ = _read(config, batch)
    rows_B = batch.get("mask", jnp.ones(len(x)))
    if not _exact(config):
        drawn, _ = moves(
            config, params, base(config, key, len(x)), key, config.evaluation.score_moves
        )
        return {"sample_distance": sample_distance.statistic(x, rows_B, drawn)}
    nats_B = energy(config, params, x) + _log_z(config, params)
    count = rows_B.sum() * x[0].size
    return {"likelihood": {"total": (rows_B * nats_B).sum() / np.log(2), "count": count}}


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """What `score` measures."""
    if not _exact(config):
        return {"sample_distance": sample_distance.KIND}
    return {"likelihood": {"unit": "bits/dim", "kind": "exact", "better": "lower"}}


def limits(config: ConfigDict) -> dict[str, Limit]:
    """Chains that have left the data behind: their energies lie far from those of the data."""
    if not hasattr(objective_part(config), "memory"):
        return {}
    means = "chains and data have parted"
    return {"chain_divergence": Limit("energy_gap", means, low=-GAP, high=GAP)}


GAP = 10.0  # nats a dimension, between the mean energies of chains and of data


def before_bounds(config: ConfigDict, params: Any, key: Array) -> dict[str, Any]:
    """log Z as it is, where it is known, and by annealing from either end, with standard errors."""
    used = frozen(config, "model", "hardware", "evaluation", "sampling")
    return _log_zs(used, params, key)


@functools.partial(jax.jit, static_argnums=0)
def _log_zs(config: Any, params: Any, key: Array) -> dict[str, Any]:
    steps, chains = config.evaluation.temperatures, config.evaluation.chains
    of_images = annealed.Model(
        energy=lambda x, beta: energy(config, params, x, beta=beta),
        move=lambda x, key, beta: move(config, params, x, key, beta)[0],
        base_log_z=energy_part(config).base_log_z(config.model),
    )
    keys = jax.random.split(key, 4)
    begin, end = base(config, keys[0], chains), _ends(config, params, keys[1], chains)
    known = {"exact": _log_z(config, params)} if _exact(config) else {}
    return known | {
        "ais": annealed.forward(of_images, begin, steps, keys[2]),
        "reverse_ais": annealed.back(of_images, end, steps, keys[3]),
    }


def _ends(config: Any, params: Any, key: Array, num: int) -> Array:
    """Samples of the model: exact ones where they can be drawn, else those of long chains."""
    of = energy_part(config)
    if _drawable(config):
        return of.draw(config.model, params["energy"], key, num)
    return moves(config, params, base(config, key, num), key, config.sampling.moves)[0]


def bounds(
    config: ConfigDict, params: Any, batch: dict, key: Array, shared: Any
) -> dict[str, Array]:
    """-log p of each image by each log Z, nats [B]."""
    del key
    nats_B = energy(config, params, _read(config, batch)[0])
    found = {name: nats_B + shared[name].log_z for name in ("ais", "reverse_ais")}
    return found | ({"exact": nats_B + shared["exact"]} if _exact(config) else {})


def bound_kinds(config: ConfigDict) -> dict[str, str]:
    """Forwards log Z comes out low by Jensen's inequality, back from exact samples high."""
    back = "upper bound" if _drawable(config) else "estimate"
    kinds = {"ais": "lower bound", "reverse_ais": back}
    return kinds | ({"exact": "exact"} if _exact(config) else {})


def shared_error(config: ConfigDict, shared: Any) -> float:
    """The standard error of the gap between both estimates of log Z, nats."""
    del config
    return math.hypot(*(float(shared[name].error) for name in ("ais", "reverse_ais")))


@functools.partial(jax.jit, static_argnums=0)
def _moved(config: Any, params: Any, x: Array, key: Array) -> Array:
    return moves(config, params, x, key, BLOCK)[0]


def sample(config: ConfigDict, params: Any, key: Array, num: int) -> np.ndarray:
    """Images at the end of chains from the base, [num, H, W, C], uint8 if the data are."""
    used, model = frozen(config, "model", "hardware"), config.model
    x = jax.jit(functools.partial(base, used, num=num))(key)
    for index in range(-(-config.sampling.moves // BLOCK)):
        x = _moved(used, params, x, jax.random.fold_in(key, index))
    return np.asarray(levels.nearest(x, model.levels) if model.discrete else x)
