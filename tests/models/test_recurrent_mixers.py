"""Recurrences and convolutions: chunks, caches, texts and padding change nothing of what is said.

Whatever else holds of every mixer is tested on the four at once.
"""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import cost
from research.errors import UserError
from research.models import common, linear_recurrence, transformer
from research.models.attention import Where
from research.parts import load
from tests import shapes

KEY = jax.random.key(0)
WIDTH, LENGTH = 16, 11
MIXERS = ("lstm", "gated_delta", "mamba2", "convolution")
OWN = {"gated_delta": dict(chunk=4, value_ratio=2), "mamba2": dict(chunk=4, state_size=6)}
recur: Any = jax.jit(linear_recurrence.recur, static_argnames="chunk")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(found, expected, tolerance=1e-5):
    """To 1e-5 of the largest number there."""
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(found, expected, atol=tolerance * scale, rtol=0)


def model(mixer, **keys):
    both = OWN.get(mixer, {}) | keys
    return FrozenConfigDict(shapes.autoregressive(mixer=mixer, width=WIDTH, **both).model)


@functools.cache
def built(mixer, causal=True):
    """A mixer, parameters far from their start, and its jitted function of them."""
    module = load("model.mixer", mixer, transformer.MIXERS).build(
        model(mixer), causal, "dense", jnp.float32
    )
    shape = jax.eval_shape(lambda: common.init(module, KEY, jnp.zeros((1, LENGTH, WIDTH))))
    params = jax.tree.map(lambda leaf: 0.3 * normal(*leaf.shape, seed=leaf.size), shape)
    return params, jax.jit(functools.partial(common.apply, module))


def by_loop(q, k, v, log_decay, strength=None, runs=None):
    """The recurrence of section 3, a head and a position at a time, in float64."""
    q, k, v, log_decay = (np.asarray(x, np.float64) for x in (q, k, v, log_decay))
    read = np.zeros(v.shape)
    states = np.zeros((*v.shape[:2], q.shape[-1], v.shape[-1]))
    for b, n in np.ndindex(v.shape[:2]):
        state = states[b, n]
        for t in range(v.shape[2]):
            if runs is not None and t and runs[b, t] != runs[b, t - 1]:
                state = 0 * state
            state = np.exp(log_decay[b, n, t]) * state
            write = v[b, n, t]
            if strength is not None:
                write = strength[b, n, t] * (write - state.T @ k[b, n, t])
            state = state + np.outer(k[b, n, t], write)
            read[b, n, t] = state.T @ q[b, n, t]
        states[b, n] = state
    return read, states


@functools.cache
def example():
    """q, k, v, log_decay, strength of two heads, and runs of the first of two examples alike."""
    draw = np.random.default_rng(0)
    q, k = normal(2, 2, 2, 13, 4)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    decay = -draw.exponential(0.5, (2, 2, 13)).astype(np.float32)
    strength = draw.uniform(size=(2, 2, 13)).astype(np.float32)
    runs = np.stack([np.repeat([0, 1, 2], [3, 4, 6]), np.repeat([0, 1, 2], [1, 1, 11])])
    return q, k, normal(2, 2, 13, 3, seed=1), decay, strength, runs


@pytest.mark.parametrize("delta", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_chunks_of_any_length_are_the_plain_recurrence(delta, cut):
    """13 positions, which no chunk but one divides, against a loop: values and the last state."""
    q, k, v, decay, strength, runs = example()
    given = (q, k, v, decay, strength if delta else None, runs if cut else None)
    expected = by_loop(*given)
    for chunk in (1, 4, 64):
        for one, two in zip(recur(*given, chunk=chunk), expected, strict=True):
            close(one, two)


@pytest.mark.parametrize("delta", [True, False])
def test_gradients_do_not_depend_on_the_chunk(delta):
    q, k, v, decay, strength, runs = example()
    weight = normal(*v.shape, seed=2)

    @functools.partial(jax.jit, static_argnames="chunk")
    def gradient(given, chunk):
        loss = lambda given: (weight * recur(*given, runs, chunk=chunk)[0]).sum()  # noqa: E731
        return jax.grad(loss)(given)

    given = (q, k, v, decay, strength if delta else None)
    plain = gradient(given, chunk=1)
    for chunk in (4, 16)[: 1 + delta]:
        jax.tree.map(close, gradient(given, chunk=chunk), plain)


def test_equal_keys_are_no_harm_to_the_inverse():
    """Of a chunk of one key alone: powers of its matrix would cancel to nothing in float32."""
    lower = np.tril(np.ones((64, 64), np.float32), -1)
    expected = np.eye(64) - np.eye(64, k=-1)
    np.testing.assert_array_equal(jax.jit(linear_recurrence.unit_lower_inverse)(lower), expected)


def test_a_memory_that_forgets_nothing_recalls_every_value():
    """Delta rule, decay 1, strength 1 and orthonormal keys: each key gives its latest value."""
    keys = np.linalg.qr(normal(8, 8))[0]
    k = np.concatenate([keys, keys[:4]])[None, None]  # four keys are written to again
    v, ones = normal(1, 1, 12, 5), np.ones((1, 1, 12), np.float32)
    _, state = recur(k, k, v, 0 * ones, ones, chunk=8)
    close(keys[:4] @ state[0, 0], v[0, 0, 8:])
    close(keys[4:] @ state[0, 0], v[0, 0, 4:8])
    _, summed = recur(k, k, v, 0 * ones, chunk=8)  # without the rule they add up
    close(keys[:4] @ summed[0, 0], v[0, 0, 8:] + v[0, 0, :4])


def test_the_dual_form_is_masked_attention():
    """(L o Q K^T) V with L_ij the product of the decays after j (Dao & Gu 2024, equation 16)."""
    q, k, v, decay, *_ = example()
    total = np.cumsum(decay, -1)
    mask = np.tril(np.exp(total[..., :, None] - total[..., None, :]))
    close(recur(q, k, v, decay, chunk=4)[0], (mask * (q @ k.swapaxes(-1, -2))) @ v)


def test_lstm_is_a_plain_loop():
    params, run = built("lstm")
    x = normal(3, LENGTH, WIDTH)
    found, _ = run(params, x)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    kernel, bias = params["input"]["kernel"], params["input"]["bias"]
    hidden = cell = np.zeros((3, WIDTH))
    rows = []
    for t in range(LENGTH):
        gates = np.einsum("bi,igo->gbo", x[:, t], kernel) + np.asarray(bias)[:, None]
        gates = gates + np.einsum("bi,igo->gbo", hidden, params["recurrent"])
        cell = sigmoid(gates[2] + 1) * cell + sigmoid(gates[1]) * np.tanh(gates[0])
        hidden = sigmoid(gates[3]) * np.tanh(cell)
        rows.append(hidden @ params["out"]["kernel"])
    close(found, np.stack(rows, 1))


def test_gated_delta_is_a_plain_loop():
    """The whole layer: convolution, SiLU, unit queries and keys, decay, norm and gate."""
    params, run = built("gated_delta")
    x = normal(3, LENGTH, WIDTH).astype(np.float64)
    found, _ = run(params, x.astype(np.float32))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    silu = lambda x: x / (1 + np.exp(-x))  # noqa: E731
    wide = np.einsum("bli,inck->blnck", x, p["qkvg"]["kernel"])  # two of four are the values
    taps = p["conv"]["kernel"]
    late = np.pad(wide[:, :, :, :4], [(0, 0), (3, 0), *[(0, 0)] * 3])
    q, k, *v = np.moveaxis(silu(sum(taps[j] * late[:, j : j + LENGTH] for j in range(4))), 3, 0)
    q, k = (y / np.sqrt(np.square(y).sum(-1, keepdims=True) + 1e-6) for y in (q, k))
    v, gate = np.concatenate(v, -1), wide[:, :, :, 4:].reshape(3, LENGTH, 2, -1)
    rates = np.einsum("bli,icn->cbln", x, p["rates"]["kernel"])
    decay = -np.exp(p["log_rate"]) * np.log1p(np.exp(rates[0] + p["step_bias"]))
    strength = 1 / (1 + np.exp(-rates[1]))
    o = by_loop(*(y.swapaxes(1, 2) for y in (q, k, v, decay, strength)))[0].swapaxes(1, 2)
    o = p["out_norm"]["scale"] * o / np.sqrt(np.square(o).mean(-1, keepdims=True) + 1e-6)
    close(found, (o * silu(gate)).reshape(3, LENGTH, -1) @ p["out"]["kernel"], 1e-4)


@pytest.mark.parametrize("mixer", MIXERS)
def test_no_position_sees_the_future(mixer):
    """d y[t] / d x[u] is 0 for u > t; all of the past is seen, or what the taps reach."""
    params, run = built(mixer)
    x = normal(1, LENGTH, WIDTH)
    jacobian = jax.jit(jax.jacrev(lambda x: run(params, x)[0].sum(-1)[0]))(x)
    sizes = np.abs(jacobian).sum((1, 3))
    past = np.tri(LENGTH) * (1 - np.tri(LENGTH, k=-4) * (mixer == "convolution"))
    np.testing.assert_array_equal(sizes > 0, past > 0)


@pytest.mark.parametrize("mixer", MIXERS)
def test_cached_positions_are_those_of_the_whole(mixer):
    """Prompts of different lengths behind padding: five positions, then one at a time."""
    params, run = built(mixer)
    x, pads = normal(3, LENGTH, WIDTH), (0, 2, 4)
    begun, _ = run(params, np.stack([np.roll(x[i], -pad, 0) for i, pad in enumerate(pads)]))
    positions = np.arange(LENGTH) - np.array(pads)[:, None]
    module = load("model.mixer", mixer, transformer.MIXERS)
    cache = start = module.empty_cache(model(mixer), 3, LENGTH, jnp.float32)
    rows = []
    for part in (slice(0, 5), *(slice(t, t + 1) for t in range(5, LENGTH))):
        found, cache = run(params, x[:, part], Where(positions[:, part]), cache)
        rows.append(found)
    jax.tree.map(lambda one, two: np.testing.assert_array_equal(one * 0, two), cache, start)
    _, same = run(params, x[:, :5], Where(np.full((3, 5), -1)), cache)
    for name in {"hidden", "cell", "state"} & {*cache}:  # padding leaves it as it was
        np.testing.assert_array_equal(same[name], cache[name])
        assert cache[name].any()
    whole, _ = run(params, x, Where(positions))  # which does not see padding either
    for found in (np.concatenate(rows, 1), whole):
        for row, alone, pad in zip(found, begun, pads, strict=True):
            close(row[pad:], alone[: LENGTH - pad])


SEGMENTS = np.repeat([1, 0, 1], [3, 2, 6])[None].repeat(3, 0)


@pytest.mark.parametrize("mixer", MIXERS)
def test_texts_of_one_example_do_not_see_each_other(mixer):
    params, run = built(mixer)
    x = normal(1, LENGTH, WIDTH).repeat(3, 0)
    found, _ = run(params, x, Where(None, SEGMENTS))
    alone, _ = run(params, np.stack([np.roll(x[0], -start, 0) for start in (0, 3, 5)]))
    close(found[0], np.concatenate([alone[0, :3], alone[1, :2], alone[2, :6]]))
    assert np.abs(found - alone[0])[0, 3:].max() > 1e-2


@pytest.mark.parametrize("mixer", MIXERS)
def test_both_ways_is_one_each_way(mixer):
    """Texts and padding are turned with the positions."""
    params, run = built(mixer, False)
    _, forwards = built(mixer)
    x, turned = normal(3, LENGTH, WIDTH), Where(None, SEGMENTS[:, ::-1])
    there, _ = forwards(params["forwards"], x, Where(None, SEGMENTS))
    back, _ = forwards(params["backwards"], x[:, ::-1], turned)
    close(run(params, x, Where(None, SEGMENTS))[0], there + back[:, ::-1])


# Products of a position, of those that are not the recurrence's own.
LINEAR = {"lstm": 9, "convolution": 4, "gated_delta": 8 + 2 / 8, "mamba2": 6 + 14 / 16}


@pytest.mark.parametrize("mixer", MIXERS)
def test_flops_are_linear_in_length(mixer):
    """The ledger's, in which each product with a weight is 2 for each of its numbers."""
    module = load("model.mixer", mixer, transformer.MIXERS).build(
        model(mixer), True, "dense", jnp.float32
    )
    apply = functools.partial(common.apply, module)
    params, _ = built(mixer)
    once, twice = (cost.count(apply, params, jnp.zeros((1, n, WIDTH))) for n in (8, 16))
    assert twice == {scope: 2 * flops for scope, flops in once.items()}
    own = sum(flops for scope, flops in once.items() if "recurrence" in scope)
    assert sum(once.values()) - own == 2 * 8 * LINEAR[mixer] * WIDTH**2
    assert (own > 0) == (mixer in OWN)


@pytest.mark.parametrize(
    "mixer, key, value, said",
    [
        ("gated_delta", "chunk", 48, "chunk=48 must be a power of two.*nearest valid: 32"),
        ("mamba2", "chunk", 0, "chunk=0 must be a power of two.*nearest valid: 1"),
        ("gated_delta", "num_heads", 3, "num_heads=3 does not divide the 16 .*valid: 2"),
        ("mamba2", "num_heads", 0, "num_heads=0 must be at least 1"),
        ("gated_delta", "value_ratio", 0, "value_ratio=0 must be at least 1"),
        ("mamba2", "state_size", 0, "state_size=0 must be at least 1"),
        ("convolution", "conv_window", 0, "conv_window=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(mixer, key, value, said):
    config = shapes.autoregressive(mixer=mixer)
    config.model[key] = value
    with pytest.raises(UserError, match=f"config.model.{said}"):
        load("model.mixer", mixer, transformer.MIXERS).check(config)
