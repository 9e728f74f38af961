"""The autoregressive family: causality, a proper distribution, the ledger, published counts."""

import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import cost
from research.families import autoregressive
from research.models import common, decoder
from research.models.attention import Where
from tests import shapes

KEY = jax.random.key(0)


def logits_of(config, params, tokens):
    module = autoregressive.network(config)
    return decoder.logits(config, params, common.apply(module, params, tokens)[0])


def fresh(config):
    """Parameters at their start; jitted, since tracing beats running op by op."""
    return jax.jit(lambda: autoregressive.init(config, KEY))()


def score(config, params, batch):
    found = jax.jit(lambda p, b: autoregressive.score(config, p, b, KEY))(params, batch)
    return found["likelihood"]


def perturbed(config, seed=1):
    """Parameters away from their start, where the head is zero and so is every gradient.

    Their shapes are traced and NumPy draws them, the scale of a norm around one: a program that
    draws each leaf takes seconds to compile.
    """
    with common.undrawn():
        leaves = jax.eval_shape(lambda: autoregressive.init(config, KEY))
    draw = np.random.default_rng(seed)

    def moved(path, leaf):
        mean = float("scale" in jax.tree_util.keystr(path))
        return jnp.asarray(draw.normal(mean, 0.3, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(moved, leaves)


ALL = dict(smear=True, value_embeddings=True, bigram_rows=60, residual_scalars=True)


@pytest.mark.parametrize(
    "model", [dict(), dict(num_kv_heads=1, qk_norm=True, norm="layernorm"), ALL], ids=str
)
def test_no_logit_sees_the_future(model):
    """d logits[t] / d embedding of token u is 0 for u > t, and not 0 for u <= t."""
    config = shapes.autoregressive(vocab=8, length=6, **model)
    params = perturbed(config)
    tokens = jnp.arange(6)[None]  # each token once, so that its row of the table is its position

    def logits(table):
        return logits_of(config, {**params, "embedding": table}, tokens)[0]

    jacobian = jax.jit(jax.jacrev(logits))(params["embedding"])  # [length, vocab, token, width]
    reach = np.abs(np.asarray(jacobian)).max((1, 3))[:, :6]
    assert np.all(reach[np.triu_indices(6, 1)] == 0)
    assert np.all(reach[np.tril_indices(6)] > 0)


def test_a_text_beside_another_is_as_it_is_alone():
    """Where segments alone tell them apart: nothing is smeared over the seam, or paired there."""
    config = shapes.autoregressive(vocab=8, length=6, **(ALL | dict(positions="none")))
    params = perturbed(config)
    segments = jnp.array([[0, 0, 0, 1, 1, 1]])

    def logits(tokens):
        module, where = autoregressive.network(config), Where(segments=segments)
        return decoder.logits(config, params, common.apply(module, params, tokens, where)[0])

    tokens = jnp.array([[1, 2, 3, 4, 5, 6]])
    other = tokens.at[:, :3].set(7)
    np.testing.assert_array_equal(logits(tokens)[:, 3:], logits(other)[:, 3:])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_chunks_of_the_loss_are_the_whole(tied, cap):
    """Value and gradient, whatever each position weighs."""
    config = shapes.autoregressive(length=12, tie_embeddings=tied, logit_softcap=cap)
    params = perturbed(config)
    tokens = jax.random.randint(KEY, (3, 13), 0, 16)
    weight = jax.random.normal(KEY, (3, 12))

    def run(chunks):
        config.hardware.loss_chunks = chunks
        return jax.jit(
            jax.value_and_grad(
                lambda p: (autoregressive.cross_entropy(config, p, tokens)[0] * weight).sum()
            )
        )(params)

    for one, other in zip(*map(jax.tree.leaves, (run(4), run(1))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_no_route_sees_the_future():
    """No derivative shows whom a full expert leaves out: change the end, look at the rest."""
    config = shapes.autoregressive(length=12, channel="moe", num_experts=4, capacity_factor=0.5)
    params = perturbed(config)
    tokens = jax.random.randint(KEY, (16, 12), 0, 16)
    logits = jax.jit(lambda tokens: logits_of(config, params, tokens))
    for end in (4, 8):
        other = tokens.at[:, end:].set(
            jax.random.randint(jax.random.key(end), (16, 12 - end), 0, 16)
        )
        np.testing.assert_allclose(logits(tokens)[:, :end], logits(other)[:, :end], atol=1e-5)


def test_probabilities_of_all_sequences_sum_to_one():
    """V=3, T=4: the 27 continuations of each first token have total probability 1."""
    config = shapes.autoregressive(vocab=3, length=3)
    params = perturbed(config)
    total = jax.jit(lambda t: autoregressive.cross_entropy(config, params, t)[0].sum(-1))
    for first in range(3):
        rest = itertools.product(range(3), repeat=3)
        tokens = jnp.array([(first, *others) for others in rest])
        nats = total(tokens)
        assert float(jnp.exp(-nats).sum()) == pytest.approx(1, abs=1e-5)


def test_a_network_starts_uniform():
    """The untied head starts at zero: exactly log2(V) bits a token."""
    config = shapes.autoregressive(vocab=16)
    tokens = jax.random.randint(KEY, (4, 9), 0, 16)
    batch = {"tokens": tokens, "mask": jnp.ones(4)}
    bits = score(config, fresh(config), batch)
    assert float(bits["total"] / bits["count"]) == pytest.approx(4, rel=1e-6)


def test_masked_rows_do_not_count():
    config = shapes.autoregressive()
    params = perturbed(config)
    tokens = jax.random.randint(KEY, (4, 9), 0, 16)
    batches = (
        {"tokens": tokens, "mask": jnp.array([1.0, 1, 0, 0])},
        {"tokens": tokens[:2], "mask": jnp.ones(2)},
    )
    part, alone = (score(config, params, batch) for batch in batches)
    assert part["count"] == alone["count"] == 16
    assert float(part["total"]) == pytest.approx(float(alone["total"]), rel=1e-6)


def test_cold_sampling_is_the_greedy_continuation():
    config = shapes.autoregressive(vocab=8, length=6)
    config.sampling.temperature = 0.0
    params = perturbed(config)
    drawn = autoregressive.sample(config, params, KEY, 2)
    logits = jax.jit(lambda drawn: logits_of(config, params, drawn))(jnp.asarray(drawn))
    np.testing.assert_array_equal(np.argmax(logits, -1)[:, :-1], drawn[:, 1:])
    assert drawn[0, 0] == 0


@pytest.mark.slow
def test_sampling_follows_the_model():
    """Frequencies of the first drawn token match its probabilities among the data's symbols."""
    config = shapes.autoregressive(vocab=4, length=2, vocab_size=7)  # three pad the vocabulary
    params = perturbed(config)
    drawn = autoregressive.sample(config, params, KEY, 4000)[:, 1]
    expected = jax.nn.softmax(logits_of(config, params, jnp.zeros((1, 2), jnp.int32))[0, 0, :4])
    assert drawn.max() < 4
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, expected, atol=4 * 0.5 / 4000**0.5)


def test_ledger_is_xlas_count_unrolled():
    """XLA adds norms, softmax and activations: a few per cent at this width."""
    config = shapes.autoregressive(vocab=256, length=32, width=128)
    config.hardware.unroll = 2
    params = jax.eval_shape(lambda: autoregressive.init(config, KEY))
    tokens = jnp.zeros((1, 32), jnp.int32)
    lowered = jax.jit(lambda p: logits_of(config, p, tokens)).lower(params)
    analysis = lowered.cost_analysis()
    assert analysis is not None
    assert 1 <= analysis["flops"] / cost.ledger(config).flops < 1.04
