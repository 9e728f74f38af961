"""Texts of four symbols out of three, of which every probability is known."""

import itertools
from typing import Any

import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

V, T = 3, 4
TEXTS = np.array([*itertools.product(range(V), repeat=T)])  # [81, 4]
JOINT = np.random.default_rng(3).dirichlet(np.full(V**T, 0.5))  # [81]
ENTROPY = float(-(JOINT * np.log(JOINT)).sum())
SETS = np.array([*itertools.product((False, True), repeat=T)])  # all sets of places, [16, 4]


class Head:
    """A head that reads log p as they are."""

    @staticmethod
    def logits(config: Any, params: Any, x_BxLxV: Any) -> Any:
        return x_BxLxV

    @staticmethod
    def nats(config: Any, params: Any, x_BxLxV: Any, targets_BxL: Any) -> Any:
        return -jnp.take_along_axis(x_BxLxV, targets_BxL[..., None], -1)[..., 0]


def config(**model: Any) -> ConfigDict:
    plain = dict(vocab_size=V, schedule="linear", schedule_power=2.0, block_size=0)
    return ConfigDict(dict(model=plain | model))


def log_p(likelihood_BxX: Any) -> Any:
    """log p of each token of texts, [B, T, V], given how likely each text makes what is seen."""
    weight_BxX = likelihood_BxX * jnp.asarray(JOINT)
    is_XxTxV = jnp.asarray(TEXTS[..., None] == np.arange(V), weight_BxX.dtype)
    p_BxTxV = jnp.einsum("bx,xtv->btv", weight_BxX, is_XxTxV)
    return jnp.log(p_BxTxV / weight_BxX.sum(-1)[:, None, None])


def shown(read_BxT: Any, hidden: int) -> Any:
    """Whether each text agrees with what is not hidden, [B, 81]."""
    read = jnp.asarray(read_BxT)[:, None]
    return ((read == jnp.asarray(TEXTS)) | (read == hidden)).all(-1)


def noised(read_BxT: Any, share: Any) -> Any:
    """q(x_t | x_0) of what is read for every text, [B, 81], of uniform noise."""
    same = jnp.asarray(read_BxT)[:, None] == jnp.asarray(TEXTS)
    return jnp.prod(jnp.where(same, 1 - share, 0.0) + share / V, -1)


def chances(rows: np.ndarray) -> np.ndarray:
    """How many of the rows [N, T] are each text, [81]."""
    return np.bincount(rows @ V ** np.arange(T)[::-1], minlength=V**T)
