"""The family of flows: its likelihood, its bounds, its first step, and what it refuses."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import cost, data, defaults, failures, families, levels, programs
from research.config import frozen
from research.errors import UserError
from research.evaluation import likelihood_bounds
from research.families import flow
from tests import shapes
from tests.layouts import QUICK

SPEC = {"shape": (8, 8, 1), "num_classes": 4, "discrete": False, "levels": 0}
KEY = jax.random.key(5)


def images(rows=8, symbols=0, shape=(8, 8, 1)):
    generator = np.random.default_rng(0)
    if symbols:
        return generator.integers(0, symbols, (rows, *shape), dtype=np.uint8)
    return generator.normal(size=(rows, *shape)).astype(np.float32)


def compiled(name, config) -> Any:
    """A function of the family of (params, *arrays)."""
    used = FrozenConfigDict({key: config[key] for key in ("model", "hardware", "evaluation")})
    return jax.jit(functools.partial(getattr(flow, name), used), compiler_options=QUICK)


def start(config) -> Any:
    """Parameters drawn here, so that no version of a generator changes them."""
    generator = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: generator.normal(0, 0.05, leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: flow.init(config, KEY)),
    )


GOLDEN = {
    "coupling": 2.0625527,
    "autoregressive_flow": 4.2899427,
    "glow": 2.1333752,
}  # bits a dimension


@pytest.mark.parametrize("kind", GOLDEN)
def test_the_loss_is_the_one_it_was_and_the_score_the_loss(kind):
    config = shapes.flow(flow=kind)
    params, batch = start(config), {"image": images()}
    value, metrics = compiled("loss", config)(params, batch, KEY, 0)
    assert float(value) == pytest.approx(GOLDEN[kind], rel=1e-4)
    assert float(metrics["log_det"]) > 0
    score = compiled("score", config)
    scores = score(params, batch | {"mask": np.ones(8, np.float32)}, KEY)
    likelihood = scores["likelihood"]
    assert float(likelihood["total"] / likelihood["count"]) == pytest.approx(float(value), 1e-5)
    assert float(scores["inverse_error"]["total"]) < 8e-4
    masked = {"image": batch["image"].copy(), "mask": np.array([1, 1, 0, 1] * 2, np.float32)}
    first = score(params, masked, KEY)
    masked["image"][2::4] = 7
    second = score(params, masked, KEY)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_an_identity_is_the_entropy_of_a_normal_number():
    config, batch = shapes.flow(), {"image": images(64)}
    params = flow.init(config, KEY)
    value, metrics = compiled("loss", config)(params, batch, KEY, 0)
    nats = 0.5 * (batch["image"].astype(np.float64) ** 2 + np.log(2 * np.pi))
    assert float(value) == pytest.approx(nats.mean() / np.log(2), rel=1e-6)
    assert float(metrics["log_det"]) == 0


def test_a_linear_flow_reaches_the_entropy_of_a_gaussian():
    """One layer of a network that may be linear, a few hundred steps: within .01 bits."""
    config = shapes.flow(flow="autoregressive_flow", flow_layers=1, image_shape=(1, 2, 1))
    factor = np.array([[1.5, 0.0], [0.8, 0.4]])
    batches = np.random.default_rng(0).normal(size=(400, 512, 2)) @ factor.T
    entropy = 0.5 * np.log(np.linalg.det(2 * np.pi * np.e * factor @ factor.T)) / (2 * np.log(2))
    state = programs.fresh(config, flow, flow.init(config, KEY))

    @jax.jit
    def run(state, batches):
        def step(state, each):
            index, x = each
            rate = 0.03 * (1 - index / 400)
            return flow.update(config, state, {"image": x}, KEY, index, rate)

        return jax.lax.scan(step, state, (jnp.arange(400), batches))[0]

    state = run(state, batches.reshape(400, 512, 1, 2, 1).astype(np.float32))
    x = np.random.default_rng(1).normal(size=(100_000, 2)) @ factor.T
    batch = {"image": x.reshape(-1, 1, 2, 1).astype(np.float32)}
    found = float(compiled("loss", config)(state["params"], batch, KEY, 0)[0])
    sampled = 0.5 * ((x @ np.linalg.inv(factor).T) ** 2).sum(-1).mean() - 1  # of these 100,000
    assert 0 <= found - entropy - sampled / (2 * np.log(2)) < 0.01


def discrete(kind, symbols=4, **model):
    return shapes.flow(
        dequantisation=kind, discrete=True, levels=symbols, image_shape=(2, 2, 1), squeeze=1,
        masks=("checkerboard",), **model,
    )  # fmt: skip


@pytest.mark.slow
def test_the_probabilities_of_all_levels_sum_to_one():
    """With so many samples of the noise that the bound is nearly tight: over all 16 images."""
    config = discrete("uniform", symbols=2)
    config.evaluation.importance_samples = 512
    every = np.indices((2,) * 4).reshape(4, -1).T.reshape(-1, 2, 2, 1).astype(np.uint8)
    params = jax.tree.map(lambda x: 1.5 * x, start(config))
    found = compiled("bounds", config)(params, {"image": every}, KEY, None)
    total = float(np.exp(-found["importance_bound"]).sum())
    z = np.asarray(flow.sample(config, params, KEY, 4000)).reshape(4000, -1)
    inside = flow.inverse(config, params, jax.random.normal(KEY, (4000, 2, 2, 1)))
    share = float((np.abs(inside) < 2).all((1, 2, 3)).mean())  # levels are half of [-2, 2]
    assert z.dtype == np.uint8 and set(np.unique(z)) == {0, 1}
    assert total == pytest.approx(share, abs=0.05)
    assert (found["bound"] >= found["importance_bound"]).all()


@pytest.mark.parametrize("kind", flow.DEQUANTISATIONS)
def test_noise_lies_within_a_level_and_has_its_density(kind):
    """E[1 / q(u)] over the noise is the volume of a level, 1."""
    config = discrete(kind)
    params = jax.tree.map(lambda x: 1.5 * x, start(config)["dequantisation"])
    seen = jnp.broadcast_to(levels.scaled(images(1, 4, (2, 2, 1)), 4), (5000, 2, 2, 1))
    noise = flow._part(config, "dequantisation").noise
    u, log_q = jax.jit(functools.partial(noise, config.model, config.hardware))(params, seen, KEY)
    assert 0 <= float(u.min()) and float(u.max()) <= 1
    inverse = np.exp(-np.asarray(log_q, np.float64))
    error = max(inverse.std() / len(inverse) ** 0.5, 1e-6)
    assert abs(inverse.mean() - 1) < 5 * error and error < 0.1
    assert (np.abs(np.asarray(log_q)).max() > 0) == (kind == "variational")


@pytest.mark.slow
def test_a_step_begins_actnorm_with_its_batch():
    """At a rate of zero, the first step leaves what makes its batch normal; the next does not."""
    config = shapes.flow(flow="glow", flow_layers=1)
    state = programs.fresh(config, flow, flow.init(config, KEY))
    step = jax.jit(functools.partial(flow.update, config), compiler_options=QUICK)
    x = 3 + 2 * images()
    after, metrics = step(state, {"image": x}, KEY, 0, 0.0)
    loss, _ = compiled("loss", config)(after["params"], {"image": x}, KEY, 0)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    fresh, _ = compiled("loss", config)(state["params"], {"image": x}, KEY, 0)
    assert float(loss) < float(fresh) - 1
    own = after["params"]["flow"]["scale_0"]
    assert np.exp(-own["log_scale"]) == pytest.approx(2 * np.ones((1, 4)), rel=0.4)
    again, _ = step(after, {"image": images()}, KEY, 1, 0.0)
    jax.tree.map(np.testing.assert_array_equal, again["params"], after["params"])


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_it_was(data_folder):
    """Bit for bit: the start of actnorm is in the parameters, and is not found again."""
    whole = shapes.flow(flow="glow", flow_layers=1)
    whole.data.folder = str(data_folder)
    program, key = programs.build(whole), jax.random.key(0)
    batches = data.batches(data.load(whole.data, "train"), 8, 0)
    given = [jax.device_put(next(batches), program.batch) for _ in range(3)]
    state, kept = program.init(key), []
    for index, batch in enumerate(given):
        state, _ = program.step(state, batch, key, np.int32(index), np.float32(0.01))
        kept.append(jax.tree.map(np.asarray, state))
    again = jax.device_put(kept[0], jax.tree.map(lambda x: x.sharding, program.state))
    for index in (1, 2):
        again, _ = program.step(again, given[index], key, np.int32(index), np.float32(0.01))
    jax.tree.map(np.testing.assert_array_equal, again, kept[2])


@pytest.mark.parametrize("kind, num_classes", [("coupling", 4), ("autoregressive_flow", 0)])
def test_samples(kind, num_classes):
    config = shapes.flow(flow=kind, num_classes=num_classes)
    params = start(config)
    drawn = [flow.sample(config, params, jax.random.key(seed), 3) for seed in (0, 0, 1)]
    assert drawn[0].shape == (3, 8, 8, 1) and drawn[0].dtype == np.float32
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    config.sampling.temperature = 0.0
    cold = [flow.sample(config, params, jax.random.key(seed), 3)[:, ::7] for seed in (0, 0)]
    assert np.array_equal(cold[0], cold[1])


@pytest.mark.parametrize("kind", ["coupling", "transformer_flow"])
def test_a_class_has_its_own_density_and_samples(kind):
    """The same normal numbers are other images of another class, which map back to them."""
    config = shapes.flow(flow=kind, flow_layers=2, image_shape=(4, 4, 1), num_classes=4)
    params = start(config)
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: 30 * x if "label" in str(path) else x, params
    )
    loss, x = compiled("loss", config), images(1, shape=(4, 4, 1))
    said = [float(loss(params, {"image": x, "label": np.array([c])}, KEY, 0)[0]) for c in range(4)]
    assert len({round(each, 4) for each in said}) == 4
    label = np.arange(4, dtype=np.int32)
    drawn = flow.sample(config, params, KEY, 4, label)
    z = jax.random.normal(jax.random.split(KEY)[0], drawn.shape)
    encode = jax.jit(functools.partial(flow.encode, frozen(config, "model", "hardware")))
    np.testing.assert_allclose(encode(params, drawn, label)[0], z, atol=1e-4)
    assert np.abs(np.asarray(encode(params, drawn, label[::-1])[0]) - z).max() > 0.01


def test_kinds():
    assert flow.score_kinds(shapes.flow())["likelihood"]["kind"] == "exact"
    assert flow.score_kinds(shapes.flow(discrete=True))["likelihood"]["kind"] == "upper bound"
    for is_discrete in (False, True):
        config = shapes.flow(flow="continuous", discrete=is_discrete)
        assert {*flow.bound_kinds(config).values()} == {"estimate"}
        likelihood_bounds.check(config, SPEC)


def test_what_blows_up_has_failed_by_name():
    config = shapes.flow()
    rows = [{"step": 1, "log_det": 30.0}]
    scores = {"inverse_error": {"value": float("inf")}}
    assert {*failures.found(config, rows, scores)} == {"not_invertible", "exploding_map"}
    well = {"inverse_error": {"value": 1e-6}}
    assert not failures.found(config, [{"step": 1, "log_det": 2.0}], well)


def test_the_ledger_reads_every_layer():
    """Of four layers, and eight steps of four calls of a network twice, for it and its slope."""
    one, four = (cost.ledger(shapes.flow(flow_layers=layers)).forward_flops for layers in (1, 4))
    assert sum(four.values()) == 4 * sum(one.values()) > 0
    steps = [
        sum(cost.ledger(shapes.flow(flow="continuous", solver_steps=n)).forward_flops.values())
        for n in (2, 8)
    ]
    assert steps[1] == 4 * steps[0] > 0


BAD = [
    ("image_shape", (8, 8, 3), r"image_shape=\(8, 8, 3\) must be \(8, 8, 1\)"),
    ("discrete", True, "discrete=True must be False for gaussian_mixture"),
    ("num_classes", 3, "num_classes=3 must be 0 or 4"),
    ("dequantisation", "variational", "must be 'uniform', which floats"),
    ("flow", "couplin", r"flow='couplin' is not one of .*did you mean 'coupling'"),
    ("flow_layers", 0, "flow_layers=0 must be at least 1"),
    ("squeeze", 3, "squeeze=3 makes squares of 3 pixels, which do not cover 8x8"),
    ("squeeze", 0, "squeeze=0 must be at least 1"),
    ("squeeze", 1, "halves channels, of which there are 1, an odd number"),
    ("squeeze", 8, "1x1 places are no checkerboard"),
    ("masks", (), r"masks=\(\) must be some of checkerboard, channel"),
    ("masks", ("chanel",), "did you mean 'channel'"),
    ("transform", "splines", "did you mean 'spline'"),
    ("bins", 1, "bins=1 must be from 2 to 100; nearest valid: 2"),
    ("bound", 0.0, "bound=0.0 must be positive"),
    ("depth", 0, "depth=0 must be at least 1"),
    ("window", 2, "window=2 must be odd; nearest valid: 3"),
    ("network=patch_conditioner.patch_size", 3, "does not divide the 4x4 places .* valid: 2"),
    ("network=patch_conditioner.bias", True, "bias=True must be False"),
    ("network=mlp_conditioner.activation", "silo", "did you mean 'silu'"),
    ("flow=glow.scales", 4, "scales=4 makes squares of 16 pixels"),
    ("flow=glow.scales", 0, "scales=0 must be at least 1"),
    ("flow=glow.flow_layers", 0, "flow_layers=0"),
    ("flow=autoregressive_flow.direction", "sample", "did you mean 'sampling'"),
    ("flow=autoregressive_flow.width", 0, "width=0 must be at least 1"),
    ("flow=transformer_flow.patch_size", 5, "does not divide the 8x8 places .* valid: 4"),
    ("flow=transformer_flow.num_heads", 3, "num_heads"),
    ("flow=continuous.solver_steps", 0, "solver_steps=0 must be at least 1"),
    ("flow=continuous.exact_dims", -1, "exact_dims=-1 must be at least 0"),
]


@pytest.mark.parametrize("key, value, words", BAD, ids=lambda each: str(each)[:40])
def test_bad_configs_are_refused(key, value, words):
    chosen, _, key = key.rpartition(".")
    config = shapes.flow(**dict([chosen.split("=")] if chosen else []))
    config.model[key] = value
    with pytest.raises(UserError, match=words):
        families.check(config, SPEC)


def test_other_bad_keys_are_refused():
    for section, key, value in (
        ("sampling", "temperature", -1.0), ("evaluation", "importance_samples", 0)
    ):  # fmt: skip
        config = shapes.flow()
        config[section][key] = value
        with pytest.raises(UserError, match=f"config.{section}.{key}={value}"):
            families.check(config, SPEC)


def test_text_is_refused():
    config = defaults.config("flow", "markov")
    config.model.update(width=8, depth=1)
    with pytest.raises(UserError, match="'markov' gives tokens; family 'flow'"):
        families.check(config, {"vocab_size": 256})
