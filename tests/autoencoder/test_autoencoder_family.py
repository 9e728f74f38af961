"""The family of autoencoders: its bound, its statistics, its codes, and what it refuses."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import cost, defaults, families, programs
from research.errors import UserError
from research.families import autoencoder
from research.families.autoencoder import coding
from tests import shapes
from tests.layouts import QUICK

KINDS = ("kl", "vq", "fsq")
SPEC = {"shape": (8, 8, 1), "num_classes": 4, "discrete": False}
KEY = jax.random.key(5)


def images(rows=8, discrete=True):
    generator = np.random.default_rng(0)
    if discrete:
        return generator.integers(0, 256, (rows, 8, 8, 1), dtype=np.uint8)
    return generator.normal(size=(rows, 8, 8, 1)).astype(np.float32)


@functools.cache
def compiled(name, config) -> Any:
    """A function of the family of (params, *arrays), compiled once for each config."""
    return jax.jit(functools.partial(getattr(autoencoder, name), config), compiler_options=QUICK)


@functools.cache
def start(kind, discrete=True) -> Any:
    """A config, and parameters drawn here, so that no version of a generator changes them."""
    config = shapes.autoencoder(bottleneck=kind, discrete=discrete)
    used = {name: config[name] for name in ("model", "hardware", "sampling")}
    generator = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: generator.normal(0, 0.15, leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: autoencoder.init(config, KEY)),
    )
    params["statistics"]["square"] = np.array([4.5, 3.0, 1.5, 3.0], np.float32)[
        : 3 + (kind != "fsq")
    ]
    if kind == "vq":
        params["bottleneck"]["share"] = np.full(256, 1 / 256, np.float32)
    return FrozenConfigDict(used), params


def found(name, kind, *arrays, discrete=True) -> Any:
    config, params = start(kind, discrete)
    return compiled(name, config)(params, *arrays)


GOLDEN = {"kl": 9.1204329, "vq": 11.1061735, "fsq": 10.8447714}  # bits a dimension


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_one_it_was(kind):
    value, metrics = found("loss", kind, {"image": images()}, KEY, 0)
    assert float(metrics["bound"]) == pytest.approx(GOLDEN[kind], rel=1e-5)
    if kind != "vq":  # which commits to codes, too
        rate = 0 if kind == "fsq" else float(metrics["rate"])
        assert float(value) == pytest.approx(float(metrics["bound"] - metrics["rate"]) + rate, 1e-5)


@pytest.mark.parametrize("kind, discrete", [*((kind, True) for kind in KINDS), ("kl", False)])
def test_the_score_is_the_metrics_and_rows_not_masked_count(kind, discrete):
    batch = {"image": images(discrete=discrete)}
    _, metrics = found("loss", kind, batch, KEY, 0, discrete=discrete)
    whole = batch | {"mask": np.ones(8, np.float32)}
    scores = found("score", kind, whole, KEY, discrete=discrete)
    for name, each in scores.items():
        assert float(each["total"] / each["count"]) == pytest.approx(float(metrics[name]), 1e-5)
    other = {"image": batch["image"].copy(), "mask": np.array([1, 1, 0, 1] * 2, np.float32)}
    first = found("score", kind, other, KEY, discrete=discrete)
    other["image"][2::4] = 77
    second = found("score", kind, other, KEY, discrete=discrete)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert first["bound"]["count"] == 6 * 64


@pytest.mark.parametrize("kind, symbols", [("vq", 256), ("fsq", 240)])
def test_a_code_costs_the_logarithm_of_their_number(kind, symbols):
    scores = found("score", kind, {"image": images()}, KEY)
    assert float(scores["rate"]["total"]) == pytest.approx(8 * 16 * np.log2(symbols), rel=1e-5)
    config, _ = start(kind)
    assert autoencoder.symbols(config) == symbols and autoencoder.symbols(start("kl")[0]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_latent_of_the_prior_is_the_bound(kind):
    """A model of latents that knows what the bottleneck assumes has the family's own bound."""
    latent, nats_B = found("latent_nats", kind, images(), KEY)
    config, params = start(kind)
    scores = found("score", kind, {"image": images()}, KEY)
    bound = float(scores["bound"]["total"]) * np.log(2)
    if kind != "kl":
        assert latent.dtype == jnp.int32 and latent.shape == (8, 4, 4)
        assert float(nats_B.sum()) + 8 * 16 * np.log(autoencoder.symbols(config)) == pytest.approx(
            bound, rel=1e-5
        )
        return
    # -log p(z) of what N(0, 1) is once it is moved and scaled; its mean over the posterior, of
    # which this is one sample of 512 numbers, is what the bound has in closed form.
    statistics = params["statistics"]
    deviation = np.sqrt(np.mean(statistics["square"] - statistics["mean"] ** 2))
    raw = np.asarray(latent) * deviation + statistics["mean"]
    prior = 0.5 * (raw**2 + np.log(2 * np.pi)) - np.log(deviation)
    assert float(nats_B.sum()) + prior.sum() == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize(
    "kind", ["vq", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("kl", "fsq"))]
)
def test_a_step_measures_the_latent(kind):
    """The first batch counts whole: its latents then have mean 0 a channel and deviation 1."""
    config = shapes.autoencoder(bottleneck=kind, discrete=True)
    _, params = start(kind)
    state = programs.fresh(config, autoencoder, jax.tree.map(jnp.asarray, params))
    step = jax.jit(functools.partial(autoencoder.update, config), compiler_options=QUICK)
    batch = {"image": images()}
    after, metrics = step(state, batch, KEY, 0, 0.0)
    assert set(metrics) >= {"loss", "bound", "rate", "error", "grad_norm"}
    encode = compiled("encode", start(kind)[0])
    z = np.asarray(encode(after["params"], batch["image"], KEY))
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=1e-5)
    assert np.square(z).mean() == pytest.approx(1, rel=1e-4)
    for name in ("encoder", "decoder"):  # at a rate of zero nothing else moved
        jax.tree.map(np.testing.assert_array_equal, after["params"][name], params[name])
    # Of the tenth batch a tenth counts.
    later, _ = step(state, batch, KEY, 9, 0.0)
    mean = [each["params"]["statistics"]["mean"] for each in (state, later, after)]
    np.testing.assert_allclose(mean[1] - mean[0], (mean[2] - mean[0]) / 10, atol=1e-6)


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_codes_are_decoded_as_their_latents_are(kind):
    code = found("codes", kind, images())
    assert code.shape == (8, 4, 4) and code.dtype == jnp.int32
    assert 0 <= code.min() and code.max() < autoencoder.symbols(start(kind)[0])
    shown = found("decode_codes", kind, code)
    assert shown.dtype == jnp.uint8 and shown.shape == (8, 8, 8, 1)
    np.testing.assert_array_equal(shown, found("decode", kind, found("encode", kind, images())))


@pytest.mark.parametrize("kind, discrete", [*((kind, True) for kind in KINDS), ("kl", False)])
def test_samples(kind, discrete):
    config, params = start(kind, discrete)
    drawn = [autoencoder.sample(config, params, jax.random.key(seed), 3) for seed in (0, 0, 1)]
    assert drawn[0].shape == (3, 8, 8, 1)
    assert drawn[0].dtype == (np.uint8 if discrete else np.float32)
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_reads_both_networks(kind):
    ledger = cost.ledger(shapes.autoencoder(bottleneck=kind))
    by_scope = cost.groups(ledger.forward_flops)
    assert set(by_scope) == {"encoder", "decoder"} | ({"bottleneck"} if kind == "vq" else set())
    if kind == "vq":  # a product of each place with each code, which has no gradient
        assert by_scope["bottleneck"] == 2 * 16 * 4 * 256
    assert ledger.score_flops == ledger.flops and ledger.tokens == 64
    # Images need no gradient: of the first convolution, 22 x 22 taps within 8 x 8, one is missing.
    learned = 3 * (by_scope["encoder"] + by_scope["decoder"]) - 2 * 8 * 22 * 22
    assert ledger.step_flops == 8 * (learned + by_scope.get("bottleneck", 0))


BAD = [
    ("image_shape", (8, 8, 3), r"image_shape=\(8, 8, 3\) must be \(8, 8, 1\)"),
    ("discrete", True, "discrete=True must be False for gaussian_mixture"),
    ("statistics_decay", 1.0, "statistics_decay=1.0 must be at least 0 and below 1"),
    ("width_multiples", (), r"width_multiples=\(\) must be integers"),
    ("width_multiples", (1, 2, 2, 2, 2), "halves the image 4 times, and 16 does not divide 8x8"),
    ("depth", 0, "depth=0 must be at least 1"),
    ("width", 10, "width=10 must be a multiple of norm_groups=4; nearest valid: 8"),
    ("norm_groups", 0, "norm_groups=0"),
    ("network", "conv_autoencode", "did you mean 'conv_autoencoder'"),
    (
        "bottleneck",
        "vqq",
        r"is not one of kl, ladder, vq, fsq \(did you mean 'vq'\?\)",
    ),
    ("kl.latent_channels", 0, "latent_channels=0 must be at least 1"),
    ("kl.kl_weight", -0.1, "kl_weight=-0.1 must be at least 0"),
    ("vq.codes", 1, "codes=1 must be at least 2"),
    ("vq.codebook_update", "averages", "did you mean 'average'"),
    ("vq.codebook_decay", 1.0, "codebook_decay=1.0 must be at least 0 and below 1"),
    ("vq.dead_below", -1.0, "dead_below=-1.0"),
    ("vq.commitment", -1.0, "commitment=-1.0"),
    ("fsq.scalar_levels", (8, 1), r"scalar_levels=\(8, 1\) must be integers of at least 2"),
    ("fsq.scalar_levels", (2**16, 2**16), "make 2.31 codes or more"),
    ("num_classes", 3, "num_classes=3 must be 0 or 4, the classes of gaussian_mixture"),
    ("kl.latent_channels", 5, r"a latent of \(4, 4, 5\) has 80 numbers, more than the 64 of the"),
    ("kl_warmup_steps", -1, "kl_warmup_steps=-1 must be at least 0 steps"),
    ("free_nats", -0.5, "free_nats=-0.5 must be at least 0"),
    ("vq.free_nats", 0.5, "free_nats=0.5 must be 0 for config.model.bottleneck='vq'"),
    ("fsq.kl_warmup_steps", 9, "kl_warmup_steps=9 must be 0 for config.model.bottleneck='fsq'"),
    ("likelihood", "gausian", r"is not one of pixel, .* \(did you mean 'gaussian'\?\)"),
    ("likelihood=gaussian.deviation", -1.0, "deviation=-1.0 must be at least 0"),
    ("likelihood=gaussian.discrete", True, "density of floats, and these data are levels"),
    ("likelihood=bernoulli.levels", 2, "is of two levels, and these data have floats"),
    ("likelihood=bernoulli.discrete", True, "is of two levels, and these data have 256 levels"),
    ("objective=importance.importance_samples", 0, "importance_samples=0 must be at least 1"),
    ("objective=importance.bottleneck", "vq", "'vq' has one code for each place; nearest"),
    ("objective=importance.kl_weight", 0.5, "kl_weight=0.5 must be 1.0"),
    ("objective=total_correlation.tc_weight", -1.0, "tc_weight=-1.0 must be at least 0"),
    ("objective=total_correlation.bottleneck", "ladder", "'ladder' has none, 'kl' has"),
    ("network=mlp_coder.depth", -1, "depth=-1 must be at least 0"),
    ("network=transformer_coder.patch_size", 3, "patch_size=3 does not divide the 8x8 image"),
]


@pytest.mark.parametrize("key, value, words", BAD, ids=lambda each: str(each)[:30])
def test_bad_configs_are_refused(key, value, words):
    kind, _, key = key.rpartition(".")
    part, _, chosen = kind.rpartition("=")
    named = {"bottleneck": "kl"} | ({part or "bottleneck": chosen} if kind else {})
    if key in coding.PARTS and part:
        named[key] = value
    config = shapes.autoencoder(**named | dict(num_heads=2) if "patch" in key else named)
    config.model[key] = value
    with pytest.raises(UserError, match=words):
        families.check(config, SPEC)


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        ("evaluation", "importance_samples", 0, "evaluation.importance_samples=0 must be at least"),
        ("sampling", "pixels", "draw", r"sampling.pixels='draw' is not .* 'drawn'"),
        ("train", "batch_size", 1, "batch_size=1 over accumulation=1 leaves 1 image at once"),
    ],
)
def test_bad_keys_elsewhere_are_refused(section, key, value, words):
    config = shapes.autoencoder(objective="total_correlation")
    config[section][key] = value
    with pytest.raises(UserError, match=words):
        families.check(config, SPEC)


@pytest.mark.parametrize("network", coding.CODERS)
def test_text_is_refused_before_any_network_is_built(network):
    config = defaults.config("autoencoder", "markov", network=network)
    config.model.update(dict(depth=1, width=8))
    if "num_heads" in config.model:
        config.model.num_heads = 2
    with pytest.raises(UserError, match="'markov' gives tokens; family 'autoencoder'"):
        families.check(config, {"vocab_size": 256})


def test_text_is_refused():
    with pytest.raises(UserError, match="'gaussian_mixture' gives tokens; family 'autoencoder'"):
        families.check(shapes.autoencoder(), {"vocab_size": 256})


def test_latents_of_images_are_added():
    """A - B + B is A, and A drawn anew by nothing is A; all of it is drawn from the prior."""
    config, params = start("kl")
    image, key = jnp.asarray(images(4)), jax.random.key(0)
    plain = autoencoder.decode(config, params, autoencoder.encode(config, params, image))
    asked: dict[str, Any] = {"image_BxHxWxC": image, "strength": 1.0}
    other = images(8)[4:]
    added: dict[str, Any] = asked | {"minus_BxHxWxC": other, "plus_BxHxWxC": other}
    np.testing.assert_array_equal(autoencoder.sample(config, params, key, 4, **added), plain)
    still: dict[str, Any] = asked | {"strength": 0.0}
    np.testing.assert_array_equal(autoencoder.sample(config, params, key, 4, **still), plain)
    new: dict[str, Any] = asked | {"image_BxHxWxC": other}
    again = autoencoder.sample(config, params, key, 4, **new)
    np.testing.assert_array_equal(autoencoder.sample(config, params, key, 4, **asked), again)


def test_a_path_goes_from_one_draw_to_another():
    """Its points are on a circle: ends of unit deviation have unit deviation all along."""
    config, params = start("kl")
    find = functools.partial(autoencoder._latent, config, params, KEY, 5, None)
    z = np.asarray(jax.jit(lambda: find({"path": True}))())
    deviation = np.sqrt(np.mean(params["statistics"]["square"] - params["statistics"]["mean"] ** 2))
    z = z * deviation + params["statistics"]["mean"]
    ends = autoencoder.bottleneck(config).drawn(config.model, None, KEY, (2, 4, 4))
    np.testing.assert_allclose(z[[0, 4]], ends, atol=1e-5)
    np.testing.assert_allclose(z[2], (ends[0] + ends[1]) / 2**0.5, atol=1e-5)
    shown = autoencoder.sample(config, params, KEY, 5, path=True)
    assert shown.shape == (5, 8, 8, 1)
    vq, codes = start("vq")
    with pytest.raises(UserError, match="draws codes, between which there is no path"):
        autoencoder.sample(vq, codes, KEY, 5, path=True)
