"""The classics: models with closed forms or exact inference, floors and baselines of the others.

`config.model.kind` names one. Its parameters are the logarithms of its probabilities, or those of
densities, and all it has to say is log p(example). The E-step is its gradient: of log p with
respect to a logarithmic parameter, it is the expected count of that parameter's event given the
example (Eisner 2016), whether the model adds up paths, trees or components. A step is one of
stepwise EM (Cappe and Moulines 2009; `stepwise`), so that no learning rate is read.

Where examples come as text, the likelihood is of the tokens that other families predict, so that
bits compare: all but the first of a window, given it.
"""

import functools
import sys
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import optim
from research.data import bytes_per_token, spells_bytes
from research.errors import UserError
from research.failures import Limit
from research.families.classic import stepwise
from research.optim.steps import averaged
from research.parts import part

# A kind is a part with
#   check_data(config, spec) raises UserError for keys that cannot be or data that do not fit
#   observed(config, batch, key) -> a pytree of examples [B, ...], as the others take one of them
#   init(config, key) -> parameters that a first step can tell apart
#   log_probability(config, params, example) -> log p in nats
#   drawn(config, params, key, num) -> samples, as the data are
# and, where it needs them,
#   given(config, params, example) -> log p of what the score takes as given, such as a first token
#   volume(config) -> log of the volume that noise fills up for an example of levels
#   statistics(config, params, examples) -> (log p of all, sums over them), else log p and its
#       gradient; empty(config), these sums over nothing, else zeros like the parameters
#   maximised(config, sums) -> parameters, else the sums' shares of their last axis
#   begun(config, params, examples, key) -> parameters that the first batch is judged by
#   shares(params) -> how much of the data each component, state or class has [width]
KINDS = {
    "mixture": "research.families.classic.mixture_of_gaussians",
    "ppca": "research.families.classic.probabilistic_pca",
    "hidden_markov": "research.families.classic.hidden_markov_model",
    "ngram": "research.families.classic.kneser_ney",
    "grammar": "research.families.classic.inside_grammar",
    "naive_bayes": "research.families.classic.naive_bayes",
}
PARTS = {"kind": KINDS}
LEAST_SHARE = 0.01  # of the data, times the number of those that share them


def default_model() -> ConfigDict:
    """Keys of `config.model` beside those of the kind."""
    return ConfigDict(dict(kind="mixture"))


def default_train() -> dict[str, Any]:
    """No step reads a rate."""
    return dict(learning_rate=1.0, warmup_steps=0, weight_decay=0.0, clip_norm=0.0)


def kind(config: ConfigDict) -> ModuleType:
    """The module of the model that `config.model` names."""
    return part(sys.modules[__name__], "kind", config.model)


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for what cannot be or what the data's `spec` does not fit."""
    model, train = config.model, config.train
    if not 0 <= model.get("kappa", 1) <= 1:
        raise UserError(
            f"config.model.kappa={model.kappa} must be from 0, the batch alone, to 1, all batches"
        )
    for key in ("width", "order"):
        if key in model and not (model[key] or 0) >= 1:
            raise UserError(f"config.model.{key}={model[key]} must be at least 1")
    if model.get("pseudo_count", 0) < 0:
        raise UserError(f"config.model.pseudo_count={model.pseudo_count} must not be negative")
    for key in ("ema_decay", "ema_widths"):
        if train[key]:
            raise UserError(
                f"config.train.{key}={train[key]} must be {type(train[key])()!r}: averages of "
                "logarithms are no probabilities; config.model.kappa averages counts"
            )
    kind(config).check_data(config, spec)


def init(config: ConfigDict, key: Array) -> Any:
    """Parameters that a first step can tell apart."""
    return kind(config).init(config, key)


def init_optimizer(config: ConfigDict, params: Any) -> dict[str, Any]:
    """The sums that the parameters are found from; nothing is seen yet."""
    of = kind(config)
    if hasattr(of, "empty"):
        return {"sums": of.empty(config)}
    return {"sums": jax.tree.map(jnp.zeros_like, params)}


def log_probability(config: ConfigDict, params: Any, examples: Any, given: bool) -> Array:
    """log p of each of `examples` in nats, [B], with or without what the score takes as given."""
    of = kind(config)

    def of_one(example: Any) -> Array:
        log_p = of.log_probability(config, params, example)
        if given and hasattr(of, "given"):
            log_p -= of.given(config, params, example)
        return log_p

    with jax.default_matmul_precision("highest"), jax.named_scope(config.model.kind):
        return jax.vmap(of_one)(examples)


def _amount(config: ConfigDict, batch: dict[str, Array]) -> Array:
    """What bits of each example are divided by, [B]: its dimensions, or bytes or tokens."""
    if "image" in batch:
        return jnp.full(len(batch["image"]), float(batch["image"][0].size))
    if "bytes" in batch:
        return batch["bytes"].astype(jnp.float32).sum(1)
    tokens = batch["tokens"].shape[1] - 1
    return jnp.full(len(batch["tokens"]), tokens * (bytes_per_token(config.data) or 1.0))


def _size(batch: dict[str, Array]) -> int:
    """Dimensions or predicted tokens of an example."""
    return batch["image"][0].size if "image" in batch else batch["tokens"].shape[1] - 1


def loss(
    config: ConfigDict, params: Any, batch: dict[str, Array], key: Array, step: Array
) -> tuple[Array, dict[str, Array]]:
    """What EM lowers: mean -log p of a whole example, in nats a dimension or predicted token."""
    del step
    examples = kind(config).observed(config, batch, key)
    return -log_probability(config, params, examples, False).mean() / _size(batch), {}


def _expected(config: ConfigDict, params: Any, batch: dict, key: Array) -> tuple[Array, Any]:
    """The loss of a batch, and the sums over it that its parameters would be found from."""
    of = kind(config)
    examples = of.observed(config, batch, key)
    if hasattr(of, "statistics"):
        with jax.default_matmul_precision("highest"), jax.named_scope(config.model.kind):
            log_p, sums = of.statistics(config, params, examples)
    else:
        log_p, sums = jax.value_and_grad(
            lambda params: log_probability(config, params, examples, False).sum()
        )(params)
    return -log_p / (_size(batch) * jax.tree.leaves(examples)[0].shape[0]), sums


def update(
    config: ConfigDict, state: dict, batch: dict, key: Array, step: Array, rate: Array
) -> tuple[dict, dict]:
    """A step of stepwise EM. Its loss is that of the parameters before it."""
    del rate
    of, params, model = kind(config), state["params"], config.model
    if hasattr(of, "begun"):
        at_first = of.begun(config, params, of.observed(config, batch, key), key)
        params = jax.tree.map(lambda x, first: jnp.where(step == 0, first, x), params, at_first)
    parts = optim.micro_batches(config)
    each = averaged(functools.partial(_expected, config, params), parts)
    value, found = each(batch, key)
    kept = stepwise.kept(model.get("kappa", 1.0), step)
    before = state["opt_state"]["sums"]
    sums = jax.tree.map(lambda old, new: kept * old + parts * new, before, found)
    params = maximised(config, sums)
    metrics = {"loss": value}
    if hasattr(of, "shares"):
        shares = of.shares(params)
        metrics["smallest_share"] = shares.min() * len(shares)
    return {**state, "params": params, "opt_state": {"sums": sums}}, metrics


def maximised(config: ConfigDict, sums: Any) -> Any:
    """The M-step: the parameters that are likeliest by the sums over what was seen."""
    of = kind(config)
    if hasattr(of, "maximised"):
        return of.maximised(config, sums)
    return jax.tree.map(lambda c: stepwise.log_share(c + config.model.pseudo_count), sums)


def score(config: ConfigDict, params: Any, batch: dict[str, Array], key: Array) -> dict:
    """Bits of the rows not masked, by what there are of dimensions, bytes or tokens."""
    nats_B = bounds(config, params, batch, key, None)["likelihood"]
    rows_B = batch.get("mask", jnp.ones(len(nats_B)))
    bits, count = (rows_B * nats_B).sum() / np.log(2), (rows_B * _amount(config, batch)).sum()
    return {"likelihood": {"total": bits, "count": count}}


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """Likelihood, in the unit of the data."""
    text = "image_shape" not in config.model
    unit = ("bits/byte" if spells_bytes(config.data) else "bits/token") if text else "bits/dim"
    return {
        "likelihood": {"unit": unit, "kind": bound_kinds(config)["likelihood"], "better": "lower"}
    }


def limits(config: ConfigDict) -> dict[str, Limit]:
    """A component, state or class that has next to none of the data is lost to EM."""
    if not hasattr(kind(config), "shares"):
        return {}
    return {"dead_component": Limit("smallest_share", "one has no data left", low=LEAST_SHARE)}


def bounds(
    config: ConfigDict, params: Any, batch: dict[str, Array], key: Array, shared: Any
) -> dict[str, Array]:
    """-log p of each example in nats, [B]."""
    del shared
    of = kind(config)
    nats_B = -log_probability(config, params, of.observed(config, batch, key), True)
    return {"likelihood": nats_B - (of.volume(config) if hasattr(of, "volume") else 0.0)}


def bound_kinds(config: ConfigDict) -> dict[str, str]:
    """Exact; of a density of levels, which noise fills up, a bound (Theis 2016, section 3.1)."""
    filled = hasattr(kind(config), "volume") and config.model.discrete
    return {"likelihood": "upper bound" if filled else "exact"}


def sample(config: ConfigDict, params: Any, key: Array, num: int) -> np.ndarray:
    """Images [num, H, W, C], or sequences of config.data.length tokens [num, length]."""
    return np.asarray(kind(config).drawn(config, params, key, num))
