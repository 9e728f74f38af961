"""A two-player family: the Dirac-GAN (Mescheder et al. 2018, section 2), alternating updates.

Data is a point at 0, the generator a point at theta, the discriminator psi x. Simultaneous play
turns in circles for ever; the R1 penalty (their eq. 10) makes it converge to theta = 0.
"""

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict


def default_model() -> ConfigDict:
    return ConfigDict(dict(penalty=1.0))


def init(config, key):
    return {"generator": {"theta": jnp.ones(())}, "discriminator": {"psi": jnp.ones(())}}


def loss(config, params, batch, key, step):
    product = params["generator"]["theta"] * params["discriminator"]["psi"]
    return -jax.nn.softplus(-product), {}


def init_optimizer(config, params):
    return {"turns": jnp.zeros((), jnp.int32)}


def update(config, state, batch, key, step, learning_rate):
    theta, psi = state["params"]["generator"]["theta"], state["params"]["discriminator"]["psi"]
    psi += learning_rate * (jax.nn.sigmoid(-theta * psi) * theta - config.model.penalty * psi)
    theta -= learning_rate * jax.nn.sigmoid(-theta * psi) * psi
    params = {"generator": {"theta": theta}, "discriminator": {"psi": psi}}
    turns = {"turns": state["opt_state"]["turns"] + 1}
    value, _ = loss(config, params, batch, key, step)
    return {**state, "params": params, "opt_state": turns}, {"loss": value, "theta": theta}


def score(config, params, batch, key):
    distance = {"total": jnp.abs(params["generator"]["theta"]), "count": jnp.ones(())}
    return {"distance": distance}


def score_kinds(config):
    return {"distance": {"unit": "distance", "kind": "exact", "better": "lower"}}


def sample(config, params, key, num):
    return np.full((num, 1, 1, 1), params["generator"]["theta"])
