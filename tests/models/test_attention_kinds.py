"""Every kind of attention, position, norm and pattern of layers, by its definition."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import config as configs
from research import cost, defaults, study
from research.errors import UserError
from research.families import autoregressive
from research.models import (
    alibi,
    attention,
    attention_cache,
    common,
    decoder,
    full_attention,
    kernels,
    latent_attention,
    rotary,
    strided_attention,
    transformer,
)
from research.models.attention import Where
from research.models.kernels import Places, Rule
from tests import shapes
from tests.models.test_decoder import perturbed

KEY = jax.random.key(0)
# A layer of each kind, and more layers than the pattern has.
MIXED = (
    "mixer=latent,query_latent_dim=8,norm_place=sandwich",
    "mixer=differential,attention=strided,stride=3,norm_place=post",
    "attention=window,window=4,positions=none,sink_logits=True",
    "positions=alibi,num_kv_heads=1,attention_gate=True,parallel=True,norm_place=output",
    "attention=sinks,window=3,sinks=2,norm_scale=False,qk_norm=True",
)
LENGTH = 12


def mixed(**keys):
    model: dict[str, Any] = dict(pattern=MIXED, depth=6, width=16, num_heads=4)
    return shapes.autoregressive(length=LENGTH, **model | keys)


@pytest.fixture(scope="module")
def whole():
    """A mixed network, and its logits of three texts."""
    config = mixed()
    params, tokens = perturbed(config), jax.random.randint(KEY, (3, LENGTH), 0, 16)
    return config, params, tokens, logits(config, params, tokens)


def logits(config, params, tokens, where=attention.IN_ORDER):
    @jax.jit
    def run(params, tokens, where):
        x, *_ = common.apply(autoregressive.network(config), params, tokens, where)
        return decoder.logits(config, params, x)

    return run(params, tokens, where)


@pytest.mark.slow
def test_every_kind_goes_on_from_its_cache(whole):
    """From texts with 0, 5 and 2 positions of padding before them, to 1e-5."""
    config, params, tokens, expected = whole
    padding = np.array([0, 5, 2])
    shifted = jnp.stack([jnp.roll(row, n) for row, n in zip(tokens, padding, strict=True)])
    assert float(jnp.abs(expected).max()) > 0.5

    @jax.jit
    def go_on(params, tokens, start, cache):
        at = start + jnp.arange(tokens.shape[1]) - padding[:, None]
        network = autoregressive.network(config)
        x, _, cache = common.apply(network, params, tokens, Where(at), cache)
        return decoder.logits(config, params, x), cache

    own = decoder.apart(config.model, params)
    cache = decoder.empty_cache(config.model, config.hardware, 3, LENGTH)
    found, cache = go_on(own, shifted[:, :6], 0, cache)
    rows = [found]
    for position in range(6, LENGTH):
        found, cache = go_on(own, shifted[:, position, None], position, cache)
        rows.append(found)
    found = jnp.concatenate(rows, 1)
    for row, after, n in zip(expected, found, padding, strict=True):
        np.testing.assert_allclose(after[n:], row[: LENGTH - n], atol=1e-5)


def test_a_narrow_cache_is_near():
    """In int8 a vector is off by at most half a step, a 254th of its largest feature."""
    x = jax.random.normal(KEY, (2, 3, 5, 8))
    cache = attention_cache.empty({"key": (3, 8)}, 2, 5, None, jnp.int8)
    at = jnp.broadcast_to(jnp.arange(5), (2, 5))
    seen, _ = attention_cache.attended(cache, at, {"key": x}, lambda seen, at: seen)
    bound = np.abs(np.asarray(x)).max(-1, keepdims=True) / 254
    off = np.abs(np.asarray(seen["key"] - x))
    assert np.all(off <= bound * (1 + 1e-5)) and off.max() > 0


def test_a_cache_is_read_as_far_as_it_is_filled(monkeypatch):
    """Of 16 slots the first 2, 4, 8 or all are read, and what is read is all there is."""
    monkeypatch.setattr(attention_cache, "FEWEST", 2)
    x_1x1x16x4 = jax.random.normal(KEY, (1, 1, 16, 4))
    cache = attention_cache.empty({"key": (1, 4)}, 1, 16, None, jnp.float32)

    @jax.jit
    def add(cache, at, x):
        def attend(seen, at):
            return (seen["key"] * (at >= 0)[:, None, :, None]).sum(2), seen["key"].shape[2]

        return attention_cache.attended(cache, at, {"key": x}, attend)

    for used in range(1, 17):
        at = jnp.full((1, 1), used - 1)
        (total, read), cache = add(cache, at, x_1x1x16x4[:, :, used - 1 : used])
        np.testing.assert_allclose(total, x_1x1x16x4[:, :, :used].sum(2), rtol=1e-5, atol=1e-6)
        assert read == max(2, 1 << (used - 1).bit_length())


def test_a_pattern_scanned_is_the_pattern_in_a_line(whole):
    """Two rounds of three entries and one layer more: values, and what layers measure."""
    pattern = ("positions=none", "channel=moe,num_experts=2", "attention=window,window=2")
    config = mixed(pattern=pattern, depth=7)
    params, tokens = perturbed(config), whole[2]

    def loss(unroll):
        config.hardware.unroll = unroll
        return jax.jit(
            lambda p: autoregressive.loss(config, p, {"tokens": tokens}, KEY, jnp.int32(0))
        )(params)

    (one, measured), (two, others) = loss(9), loss(1)
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert {*measured} == {*others} >= {"balance", "dropped"}
    np.testing.assert_allclose(measured["balance"], others["balance"], rtol=1e-6)
    assert {*params["stack"]["blocks"]} == {"0", "1", "2"}
    depths = [len(params["stack"]["blocks"][e]["attention"]["out"]["kernel"]) for e in "012"]
    assert depths == [3, 2, 2]


def test_a_pattern_costs_what_its_layers_cost():
    """Parameters and FLOPs, scope by scope."""
    pattern = ("mlp_ratio=2.0", "channel=moe,num_experts=2", "attention=window,window=2")

    def ledger(depth, **model):
        return cost.ledger(shapes.autoregressive(depth=depth, **model))

    def layers(depth, **model):
        """Of `depth` layers alone."""
        one, more = ledger(1, **model), ledger(1 + depth, **model)
        counts = more.total_params - one.total_params, more.flops - one.flops
        return np.array(counts)

    own, one = ledger(7, pattern=pattern), ledger(1)
    of_layers = layers(3, mlp_ratio=2.0) + layers(2, channel="moe", num_experts=2) + layers(2)
    ends = np.array([one.total_params, one.flops]) - layers(1)
    np.testing.assert_array_equal([own.total_params, own.flops], of_layers + ends)
    assert set(own.params) == {*ledger(1).params} | {"mlp"}


@pytest.mark.parametrize(
    "pattern, said",
    [
        (("window",), "'window' is no layer; expected key=value"),
        (("windw=3",), "sets 'windw', which is no key of config.model"),
        (("depth=7",), "sets 'depth', in which layers of one stack cannot differ"),
        (("vocab_size=3",), "sets 'vocab_size', in which layers"),
        (("attention=widow",), "config.model.attention='widow' is not one of full, window"),
        (("attention=window,window=0",), "config.model.window=0 must be at least 1"),
        (("mixer=differential,num_heads=1",), "num_heads=1 must be even"),
        (("mixer=latent,latent_dim=-1",), "latent_dim=-1 must not be negative"),
        (("mixer=latent,rotary_dim=3",), "rotary_dim=3 must be even"),
        (("attention=strided,columns=99",), "columns=99 must be from 1 to config.model.stride=16"),
        (("attention=sinks,sinks=0",), "sinks=0 must be at least 1"),
        (("norm_place=before",), "norm_place='before' is not one of pre, post"),
        (("parallel=True,norm_place=post",), "'post' has no place after the first"),
        (("norm_epsilon=0.0",), "norm_epsilon=0.0 must be positive"),
        (("rotary_scaling=yarm",), "rotary_scaling='yarm' is not one of .*did you mean 'yarn'"),
        (("rotary_fraction=0.0",), "rotary_fraction=0.0 must be above 0"),
        (("rotary_factor=0.5",), "rotary_factor=0.5 must be at least 1"),
        (("num_kv_heads=three",), "num_kv_heads=three: expected int"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_one_line(pattern, said):
    with pytest.raises(UserError, match=said):
        study.load_config(
            "experiments/quickstart.py:text",
            ["--config.size=32", f"--config.model.pattern={pattern!r}"],
            prepared=False,
        )


def test_a_pattern_brings_the_keys_of_its_parts():
    """Whatever is set first; and a config.json that has them reads back."""
    flags = ["model.window=4", 'model.pattern=("attention=window", "mixer=latent")', "size=32"]
    config = study.load_config(
        "experiments/quickstart.py:text", [f"--config.{f}" for f in flags], prepared=False
    )
    assert config.model.window == 4 and config.model.latent_dim == 0
    plain = configs.to_plain(config)
    assert defaults.complete(plain) == plain
    del plain["model"]["window"]
    assert defaults.complete(plain)["model"]["window"] == 128


def test_stages_refuse_layers_that_differ():
    flags = ['model.pattern=("attention=window", "attention=full")', "model.depth=4", "size=32"]
    flags += ["hardware.mesh.stage=2"]
    with pytest.raises(UserError, match="goes round equal layers"):
        study.load_config(
            "experiments/quickstart.py:text", [f"--config.{f}" for f in flags], prepared=False
        )


@pytest.mark.parametrize("name", ["dense", "chunked"])
def test_alibi_and_prefixes_are_what_they_say(name, monkeypatch):
    """Scores by the definition, with three heads a key, and keys that all see."""
    monkeypatch.setattr(kernels, "ROWS", 12)
    model = FrozenConfigDict(dict(num_heads=6))
    rule = Rule(full_attention, model, True, alibi)
    q, k, v, weight = (jax.random.normal(key, (2, 2, n, 4)) for key, n in zip(
        jax.random.split(KEY, 4), (24, 8, 8, 24), strict=True))  # fmt: skip
    at, opened = jnp.arange(8), jnp.arange(8) < jnp.array([[0], [5]])
    places = Places(jnp.repeat(at, 3), at, key_open=opened, query_group=jnp.tile(jnp.arange(3), 8))

    def plain(q, k, v):
        heads = q.reshape(2, 2, 8, 3, 4)
        scores = jnp.einsum("bnlgk,bnsk->bngls", heads, k) / 2
        slope = alibi.slopes(6).reshape(2, 3)
        scores -= slope[:, :, None, None] * jnp.abs(at[:, None] - at)
        seen = (at[:, None] >= at) | opened[:, None, None, None, :]
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
        return jnp.einsum("bngls,bnsk->bnlgk", weights, v).reshape(2, 2, 24, 4)

    def with_gradient(function):
        total = jax.value_and_grad(lambda *qkv: (function(*qkv) * weight).sum(), (0, 1, 2))
        return jax.jit(total)(q, k, v)

    found = with_gradient(lambda *qkv: kernels.KERNELS[name](*qkv, places, rule)[0])
    for one, two in zip(*map(jax.tree.leaves, (found, with_gradient(plain))), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_slopes_are_those_of_the_paper():
    np.testing.assert_allclose(alibi.slopes(8), 0.5 ** np.arange(1, 9))
    between = [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]  # every second one of 16 heads
    np.testing.assert_allclose(alibi.slopes(12), [*(0.5 ** np.arange(1, 9)), *between])


@pytest.mark.parametrize("name", ["dense", "chunked"])
def test_a_sink_is_one_more_logit(name):
    """Values and gradients, that of the sink too: a softmax with a column that says nothing."""
    rule = Rule(full_attention, FrozenConfigDict({}), True)
    q, k, v, weight = jax.random.normal(KEY, (4, 2, 3, 6, 4))
    at, sink = jnp.arange(6), jnp.array([-1.0, 0.0, 2.0])[:, None, None]

    def ours(q, k, v, sink):
        y, normaliser = kernels.KERNELS[name](q, k, v, Places(at, at), rule)
        return (y * jax.nn.sigmoid(normaliser[..., None] - sink) * weight).sum()

    def plain(q, k, v, sink):
        scores = jnp.einsum("bnlk,bnsk->bnls", q, k) / 2
        scores = jnp.where(at[:, None] >= at, scores, -jnp.inf)
        column = jnp.broadcast_to(sink, (*scores.shape[:-1], 1))
        weights = jax.nn.softmax(jnp.concatenate([scores, column], -1))[..., :-1]
        return (jnp.einsum("bnls,bnsk->bnlk", weights, v) * weight).sum()

    found, expected = (
        jax.jit(jax.value_and_grad(f, (0, 1, 2, 3)))(q, k, v, sink) for f in (ours, plain)
    )
    for one, two in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_blocks_see_near_neighbours_and_columns():
    model = FrozenConfigDict(dict(stride=4, columns=1))
    at = np.arange(16)
    seen = strided_attention.sees(model, at[:, None], at) & (at[:, None] >= at)
    assert list(np.flatnonzero(seen[10])) == [3, 7, 8, 9, 10]
    assert list(np.flatnonzero(seen[3])) == [0, 1, 2, 3]


def frequencies(**keys):
    model = FrozenConfigDict(rotary.default_model() | dict(rotary_length=64) | keys)
    return rotary.SCALINGS[model.rotary_scaling](model, 32)


def test_scaled_positions_keep_what_their_papers_keep():
    """A factor of 8: all pairs; the slowest alone; those that turn less than once, ..."""
    plain = frequencies()
    scaled = {n: plain / frequencies(rotary_scaling=n, rotary_factor=8.0) for n in rotary.SCALINGS}
    np.testing.assert_allclose(scaled["none"], 1)
    np.testing.assert_allclose(scaled["linear"], 8)
    np.testing.assert_allclose(scaled["ntk"][[0, -1]], [1, 8], rtol=1e-5)
    turns = 64 * plain / (2 * np.pi)
    np.testing.assert_allclose(scaled["yarn"][turns < 0.5], 8, rtol=1e-5)
    np.testing.assert_allclose(scaled["llama3"][turns < 1], 8, rtol=1e-5)
    np.testing.assert_allclose(scaled["llama3"][turns > 4], 1, rtol=1e-5)
    for name in ("ntk", "yarn", "llama3"):
        assert np.all(np.diff(scaled[name]) >= -1e-5), name
    long = dict(rotary_scaling="yarn", rotary_factor=8.0, rotary_length=4096)
    np.testing.assert_allclose(frequencies(**long)[0], plain[0])


def test_a_share_of_the_features_turns():
    model = FrozenConfigDict(rotary.default_model() | dict(rotary_fraction=0.25))
    x = jax.random.normal(KEY, (3, 5, 16))
    y = rotary.turn(model, x)
    np.testing.assert_array_equal(y[..., 4:], x[..., 4:])
    whole = FrozenConfigDict(rotary.default_model())
    np.testing.assert_allclose(y[..., :4], rotary.turn(whole, x[..., :4]), atol=1e-6)


def test_norms_stand_where_they_are_said_to():
    """After a norm the stream is of size 1; one without scale has no parameter."""
    config = shapes.autoregressive(norm_place="post", norm_scale=False)
    params, tokens = perturbed(config), jax.random.randint(KEY, (2, 8), 0, 16)
    assert not [name for name in params["stack"]["blocks"] if "norm" in name]
    assert "final_norm" not in params
    x, _ = common.stream(autoregressive.network(config), params, tokens)
    np.testing.assert_allclose(jnp.square(x).mean(-1), 1, rtol=1e-3)

    def norms(place):
        config = shapes.autoregressive(norm_place=place)
        blocks = jax.eval_shape(lambda: autoregressive.init(config, KEY))["stack"]["blocks"]
        return {name for name in blocks if "norm" in name}

    names = {place: norms(place) for place in transformer.NORM_PLACES}
    before = {"attention_norm", "mlp_norm"}
    after = {"attention_out_norm", "mlp_out_norm"}
    expected = {"pre": before, "post": before, "output": after, "sandwich": before | after}
    assert names == expected


def test_parallel_branches_read_the_same():
    """Each adds what it would alone."""
    config = shapes.autoregressive(parallel=True, depth=1)
    params, x = perturbed(config)["stack"], jax.random.normal(KEY, (2, 8, 16))
    model, hardware = FrozenConfigDict(config.model), FrozenConfigDict(config.hardware)

    def run(model, without=()):
        zeros = {name: jax.tree.map(jnp.zeros_like, params["blocks"][name]) for name in without}
        return shapes.apply(
            transformer.Stack(model, hardware, True), {"blocks": params["blocks"] | zeros}, x
        )[0]

    one, other = run(model, ("mlp",)), run(model, ("attention",))
    np.testing.assert_allclose(run(model) - x, (one - x) + (other - x), atol=1e-4)


GIB = 2**30


def cache_bytes(length, **model):
    config = shapes.autoregressive(**model)
    config.hardware.compute_dtype = "bfloat16"
    found = jax.eval_shape(
        lambda: transformer.empty_cache(config.model, config.hardware, 1, length)
    )
    places = sum(leaf.size * 4 for leaf in jax.tree.leaves(found) if leaf.dtype == jnp.int32)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(found)) - places


def test_caches_are_as_large_as_published():
    """Llama-2-7B at 4,096, Llama-3-8B at 8,192; DeepSeek-V3's latents; a window's own."""
    llama = dict(depth=32, width=4096, num_heads=32)
    assert cache_bytes(4096, **llama) == 2 * GIB
    assert cache_bytes(8192, **llama, num_kv_heads=8) == GIB
    window = dict(attention="window", window=1025)
    assert cache_bytes(8192, **llama, num_kv_heads=8, **window) == GIB // 8
    latent = dict(mixer="latent", depth=61, width=7168, num_heads=128)
    latent |= dict(latent_dim=512, rotary_dim=64)
    assert cache_bytes(1024, **latent) == 61 * 1024 * (512 + 64) * 2


def test_latent_attention_of_deepseek_v3():
    """Parameters of one layer's attention (DeepSeek-AI 2024, section 4.2), norms and all."""
    sizes = dict(query_latent_dim=1536, latent_dim=512, nope_dim=128, rotary_dim=64, value_dim=128)
    model = shapes.autoregressive(
        mixer="latent", depth=1, width=7168, num_heads=128, qk_norm=False, **sizes
    ).model
    module = latent_attention.build(FrozenConfigDict(model), True, "dense", jnp.float32)
    found = jax.eval_shape(lambda: common.init(module, KEY, jnp.zeros((1, 4, 7168))))
    queries = 7168 * 1536 + 1536 + 1536 * 128 * 192
    keys_values = 7168 * 576 + 512 + 512 * 128 * 256
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == (
        queries + keys_values + 128 * 128 * 7168
    )


def test_a_kernel_refuses_what_it_cannot_do():
    for keys, said in (
        (["positions=alibi"], "cannot add the bias of config.model.positions='alibi'"),
        (["sink_logits=True"], "does not tell the normaliser that config.model.sink_logits needs"),
        (['pattern=("positions=alibi", "mixer=latent")'], "cannot add the bias"),
    ):
        flags = [f"--config.model.{key}" for key in keys]
        flags += ["--config.size=32", "--config.hardware.attention=splash"]
        with pytest.raises(UserError, match=said):
            study.load_config("experiments/quickstart.py:text", flags, prepared=False)


def test_values_may_be_wider_or_narrower_than_keys():
    """Of a tiled kernel: zeros are put beside the narrower ones."""
    rule = Rule(full_attention, FrozenConfigDict({}), True)
    at = jnp.arange(128)
    q, k = jax.random.normal(KEY, (2, 1, 1, 128, 96))
    for features in (32, 128):
        v = jax.random.normal(KEY, (1, 1, 128, features))
        found, expected = (
            kernels.KERNELS[name](q, k, v, Places(at, at), rule)[0] for name in ("splash", "dense")
        )
        np.testing.assert_allclose(found, expected, atol=2e-5)
