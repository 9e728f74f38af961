"""A network that goes on from its cache is the network on the whole prefix."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research.families import autoregressive
from research.models import common, decoder
from research.models.attention import Where
from tests import shapes
from tests.models.test_decoder import perturbed

KEY = jax.random.key(0)
MODELS = [
    dict(num_kv_heads=1, qk_norm=True),
    dict(positions="learned", max_length=12, tie_embeddings=True),
    dict(channel="moe", num_experts=4, capacity_factor=0.5),
    dict(smear=True, value_embeddings=True, bigram_rows=60, residual_scalars=True, num_kv_heads=1),
    dict(attention="window", window=3),
    dict(attention="tests.toys.strided_attention", stride=3),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: next(iter(model)))
def test_cached_logits_are_those_of_the_whole_prefix(model):
    """Four positions at once, then one at a time; experts fill up as in one go."""
    config = shapes.autoregressive(length=12, **model)
    config.hardware.unroll = 2 if "window" in model else 1
    params, module = perturbed(config), autoregressive.network(config)
    tokens = jax.random.randint(KEY, (3, 12), 0, 16)
    x, *_ = jax.jit(lambda: common.apply(module, params, tokens))()

    @jax.jit
    def go_on(tokens, start, cache):
        where = Where(start + jnp.arange(tokens.shape[1]))
        x, _, cache = common.apply(module, params, tokens, where, cache)
        return decoder.logits(config, params, x), cache

    cache = decoder.empty_cache(config.model, config.hardware, 3, 12)
    found, cache = go_on(tokens[:, :4], 0, cache)
    rows = [found]
    for position in range(4, 12):
        found, cache = go_on(tokens[:, position, None], position, cache)
        rows.append(found)
    expected = decoder.logits(config, params, x)
    assert float(jnp.abs(expected).max()) > 0.5
    np.testing.assert_allclose(jnp.concatenate(rows, 1), expected, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS[2:5], ids=lambda model: next(iter(model)))
def test_the_same_tokens_are_drawn_without_a_cache(model, monkeypatch):
    """To the token: what the whole prefix, run anew for each token, gives for the same key."""
    config = shapes.autoregressive(length=12, **model)
    params = perturbed(config)
    drawn = autoregressive.sample(config, params, KEY, 16)
    monkeypatch.delattr(decoder, "empty_cache")
    np.testing.assert_array_equal(drawn, autoregressive.sample(config, params, KEY, 16))
    assert len(np.unique(drawn)) > 4
