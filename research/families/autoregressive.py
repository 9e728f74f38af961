"""Autoregressive transformers over tokens: exact likelihood, one symbol after another."""

import functools

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research.data import bytes_per_token
from research.errors import UserError
from research.models import common, decoder, moe, transformer


def default_model() -> ConfigDict:
    """Keys of `config.model`: the stack's, and the vocabulary's."""
    model = transformer.default_model()
    model.update(dict(vocab_size=256, tie_embeddings=False, max_length=0))
    return model


def default_sampling() -> ConfigDict:
    """Keys of `config.sampling` this family reads."""
    return ConfigDict(dict(temperature=1.0))


def check(config: ConfigDict, spec: dict) -> None:
    """Raise UserError for a network that cannot be built or that the data's `spec` does not fit."""
    transformer.check(config.model)
    data, model = config.data, config.model
    if config.sampling.temperature < 0:
        raise UserError(
            f"config.sampling.temperature={config.sampling.temperature} must not be negative"
        )
    if "vocab_size" not in spec:
        raise UserError(
            f"config.data.name={data.name!r} gives images; family 'autoregressive' reads "
            "tokens, such as python_stdlib or markov"
        )
    if model.vocab_size < spec["vocab_size"]:
        raise UserError(
            f"config.model.vocab_size={model.vocab_size} is too small for the "
            f"{spec['vocab_size']} symbols "
            f"of {data.name}"
        )
    if data.length % config.hardware.loss_chunks:
        raise UserError(
            f"config.hardware.loss_chunks={config.hardware.loss_chunks} does not divide "
            f"config.data.length={data.length}"
        )
    if model.max_length and model.max_length < data.length:
        raise UserError(
            f"config.model.max_length={model.max_length} is shorter than "
            f"config.data.length={data.length}"
        )


@functools.lru_cache
def _network(model: FrozenConfigDict, hardware: FrozenConfigDict) -> decoder.Decoder:
    return decoder.Decoder(model, hardware)


def network(config: ConfigDict) -> decoder.Decoder:
    return _network(FrozenConfigDict(config.model), FrozenConfigDict(config.hardware))


def _example(config: ConfigDict) -> jax.Array:
    return jnp.zeros((1, config.data.length), jnp.int32)


def init(config: ConfigDict, key: jax.Array) -> common.Params:
    """Parameters of the decoder."""
    return common.init(network(config), key, _example(config))


def axes(config: ConfigDict) -> common.Params:
    """Logical axes of every parameter."""
    return common.logical_axes(network(config), _example(config))


def cross_entropy(
    config: ConfigDict, params: common.Params, tokens: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Nats of each of tokens[:, 1:] given the ones before it, [batch, length], and measures."""
    x, measures = common.apply(network(config), params, tokens[:, :-1])
    return decoder.nats(params, x, tokens[:, 1:], config.hardware.loss_chunks), measures


def loss(config: ConfigDict, params: common.Params, batch: dict, key: jax.Array, step: jax.Array):
    """Mean nats a token over batch["tokens"] [batch, length + 1].

    With batch["weights"] [batch, length] it is the mean of weight times nats, not divided by the
    batch's own weights, so that micro-batches add up to the batch.
    """
    del key, step
    nats, measures = cross_entropy(config, params, batch["tokens"])
    if "weights" in batch:
        nats = nats * batch["weights"]
    return nats.mean() + moe.penalty(config.model, measures), measures


def score(config: ConfigDict, params: common.Params, batch: dict, key: jax.Array) -> dict:
    """Bits of the batch, and of how many bytes or tokens; batch["weights"] weigh both."""
    del key
    nats, _ = cross_entropy(config, params, batch["tokens"])
    mask = jnp.broadcast_to(batch["mask"][:, None], nats.shape)
    if "weights" in batch:
        mask = mask * batch["weights"]
    count = mask.sum() * (bytes_per_token(config.data) or 1)
    return {"likelihood": {"total": (nats * mask).sum() / jnp.log(2.0), "count": count}}


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """Exact likelihood, of bytes where the source says how many a token spells."""
    unit = "bits/byte" if bytes_per_token(config.data) else "bits/token"
    return {"likelihood": {"unit": unit, "kind": "exact", "better": "lower"}}


def sample(config: ConfigDict, params: common.Params, key: jax.Array, num: int) -> np.ndarray:
    """Draw `num` sequences of config.data.length tokens, at config.sampling.temperature.

    The first token is the separator 0 that opens every document. Each step runs the whole
    prefix through the network: exact and simple, quadratic in length.
    """
    length = config.data.length
    module = network(config)

    def step(tokens, position):
        x, _ = common.apply(module, params, tokens)
        logits = decoder.logits(params, x[:, position, None])[:, 0]
        scaled = logits / jnp.maximum(config.sampling.temperature, 1e-6)
        drawn = jax.random.categorical(jax.random.fold_in(key, position), scaled)
        return tokens.at[:, position + 1].set(drawn), None

    def run():
        tokens = jnp.zeros((num, length), jnp.int32)
        return jax.lax.scan(step, tokens, jnp.arange(length - 1))[0]

    return np.asarray(jax.jit(run)())
