"""An evaluator: how often the token that comes was given less than even odds."""

from jax import numpy as jnp

from research.families import autoregressive


def score_kinds(config):
    return {"error_rate": {"unit": "share of tokens", "kind": "exact", "better": "lower"}}


def update(config, params, batch, key):
    nats, _ = autoregressive.cross_entropy(config, params, batch["tokens"])
    mask = jnp.broadcast_to(batch["mask"][:, None], nats.shape)
    return {"unlikely": ((nats > jnp.log(2)) * mask).sum(), "count": mask.sum()}


def finish(config, sums):
    return {"error_rate": sums["unlikely"] / sums["count"]}
