"""Optimizers by name, groups of parameters, and parameters that are frozen."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from research import cost, data, defaults, families, optim, programs, recipes, study
from research.errors import UserError
from research.optim import roles, steps
from research.run import checkpoint
from tests import shapes, tiny

RATES = {"lion": 3e-3, "sgd": 0.3}  # of the tiny decoder; the others take AdamW's


def complete(config, **train):
    """`config` with other keys of config.train, as a study would have it: checked."""
    config.train.update(train)
    recipes.apply(config)
    optim.check(config)
    optim.check_parameters(config)
    return config


def decoder(data_folder, **train):
    config = shapes.autoregressive()
    for key in ("b1", "b2", "eps"):
        del config.train[key]
    config.data.folder, config.hardware.unroll = str(data_folder), 1
    return complete(config, **train)


def run(config, steps=3):
    """(losses, state) of the first steps."""
    program = programs.build(config)
    state, key, losses = program.init(jax.random.key(0)), jax.random.key(0), []
    batches = data.batches(data.load(config.data, "train"), config.train.batch_size, 0)
    for index in range(steps):
        batch = jax.device_put(next(batches), program.batch)
        rate = np.float32(optim.learning_rate(config.train, index))
        state, metrics = program.step(state, batch, key, np.int32(index), rate)
        losses.append(float(metrics["loss"]))
    return losses, state


QUICK = ("adafactor", "muon")  # the two whose moments are not laid out as their parameters are
OTHERS = [n for n in optim.OPTIMIZERS if n not in ("adamw", *QUICK)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)]
)
def test_each_lowers_the_loss_and_eight_devices_equal_one(data_folder, name, monkeypatch):
    """AdamW's steps are golden, in test_training."""
    train = {"optimizer": name, "learning_rate": RATES.get(name, 1e-2), "schedule": "constant"}
    config = decoder(data_folder, **train)
    config.hardware.mesh.update(data=2, fsdp=2, tensor=2)
    many, state = run(config, 6)
    assert many[-1] < many[0] - 0.03
    whole = [x.size for x in jax.tree.leaves(state["opt_state"]) if x.is_fully_replicated]
    assert max(whole, default=0) <= 32  # norms [layers, width]; each matrix is split
    evaluated = optim.evaluated(config, state)
    assert (evaluated is state["params"]) == (name != "schedule_free")
    devices = jax.devices()
    config.hardware.mesh.update(data=1, fsdp=1, tensor=1)
    monkeypatch.setattr(jax, "devices", lambda *_: devices[:1])
    np.testing.assert_allclose(many, run(config, 6)[0], rtol=1e-4)


def test_roles_follow_from_axes():
    """What is decayed is what was decayed by its name: not scales, biases and positions."""
    text = shapes.autoregressive(
        bias=True, qk_norm=True, positions="learned", max_length=8, channel="moe", num_experts=2
    )
    for config in (text, shapes.autoregressive(bias=True), shapes.diffusion(num_classes=3)):
        family = families.load(config.family)
        params = jax.eval_shape(functools.partial(family.init, config), jax.random.key(0))
        known = roles.parameters(config, params)
        named = {n for n in known if n.split("/")[-1] in ("scale", "bias", "positions")}
        assert {n for n, each in known.items() if each.role == "scalar"} == named
        tables = {"embedding": "input", "head": "output", "patches/kernel": "input"}
        tables |= {"final/kernel": "output", "label": "input", "time/in/kernel": "input"}
        found = {n: each.role for n, each in known.items() if each.role in ("input", "output")}
        assert found == {n: role for n, role in tables.items() if n in known}
    assert roles.describe((None, None)) == roles.Parameter("hidden", (0,), (1,))
    assert roles.describe((None,)) == roles.describe(()) == roles.Parameter("scalar")


def test_frozen_parameters_stay_and_cost_nothing(data_folder):
    frozen = ("stack/blocks/mlp/*", "embedding")
    config = decoder(data_folder, frozen=frozen, weight_decay=0.5, ema_decay=0.9)
    before = programs.build(config).init(jax.random.key(0))["params"]
    _, state = run(config)
    names = roles.parameters(config, before)
    still = {n for n in names if n.startswith("stack/blocks/mlp/") or n == "embedding"}
    pairs = zip(names, *map(jax.tree.leaves, (before, state["params"])), strict=True)
    assert {name for name, old, new in pairs if np.array_equal(old, new)} == still
    trained = [
        x.size for n, x in zip(names, jax.tree.leaves(before), strict=True) if n not in still
    ]
    held = [x.size for x in jax.tree.leaves(state["opt_state"]) if x.ndim]
    assert sorted(held) == sorted(2 * trained)  # two moments
    assert sorted(x.size for x in jax.tree.leaves(state["ema"])) == sorted(trained)
    average = optim.evaluated(config, state)
    assert np.array_equal(average["embedding"], before["embedding"])
    assert jax.tree.structure(average) == jax.tree.structure(before)


def test_a_frozen_head_has_no_gradient_flops():
    config = shapes.autoregressive()
    full, forward = cost.ledger(config).step_flops, cost.ledger(config).forward_flops["head"]
    config.train.frozen = ("head",)
    assert cost.ledger(config).step_flops == full - forward * config.train.batch_size


def test_its_state_is_split_saved_and_read_back(data_folder, tmp_path):
    """Two optimizers, frozen parameters and an average, over replicas too and onto another mesh."""
    tables = {"roles": ("input", "output"), "optimizer": "adafactor", "factored_from": 8}
    train = {"groups": {"tables": tables}, "frozen": ("final_norm/*",), "ema_decay": 0.9}
    config = decoder(data_folder, optimizer="muon", **train)
    config.hardware.mesh.update(data=4, fsdp=2)
    config.hardware.shard_optimizer = True
    program = programs.build(config)
    state = program.init(jax.random.key(0))
    matrices = [x for x in jax.tree.leaves(state["opt_state"]) if x.size >= 256]
    assert matrices and all(x.addressable_shards[0].data.size * 8 == x.size for x in matrices)
    with checkpoint.writer(tmp_path / "checkpoints") as checkpoints:
        checkpoint.save(checkpoints, 1, state, {})
    config.hardware.mesh.update(data=1, fsdp=4, tensor=2)
    config.hardware.update(shard_optimizer=False, offload_optimizer=True)
    other = programs.build(config)
    restored, _ = checkpoint.restore(checkpoint.reader(tmp_path / "checkpoints"), 1, other.state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for ours, theirs in zip(*map(jax.tree.leaves, (state, restored)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    kinds = {x.sharding.memory_kind for x in jax.tree.leaves(restored["opt_state"]) if x.ndim}
    assert kinds == {"pinned_host"}


GROUPS = {
    "heads": {"roles": ("output",), "rate": 0.5, "optimizer": "sgd", "momentum": 0.0},
    "tables": {"paths": ("embed*",), "rate": 0.0},
}


def test_groups_have_their_own_rate_and_optimizer(data_folder):
    train = dict(groups=GROUPS, clip_norm=0.0, weight_decay=0.0)
    config = decoder(data_folder, **train)
    assert config.train.groups.heads.nesterov is False and "b1" not in config.train.groups.heads
    program = programs.build(config)
    state = program.init(jax.random.key(0))
    start = jax.tree.map(np.asarray, state["params"])
    batch = next(data.batches(data.load(config.data, "train"), 8, 0))
    loss = functools.partial(families.load(config.family).loss, config)
    gradient = jax.jit(jax.grad(lambda params: loss(params, batch, jax.random.key(0), 0)[0]))
    expected = start["head"] - 0.5 * 0.1 * gradient(start)["head"]
    placed = jax.device_put(batch, program.batch)
    state, _ = program.step(state, placed, jax.random.key(0), np.int32(0), np.float32(0.1))
    np.testing.assert_allclose(state["params"]["head"], expected, rtol=1e-4, atol=1e-7)
    assert np.abs(expected).max() > 1e-3
    assert np.array_equal(state["params"]["embedding"], start["embedding"])


def test_each_role_has_its_rate_and_epsilon_beside_muon(data_folder):
    """A first step of Adam is g / (|g| + eps) times the rate of its group."""
    groups = {
        "tables": {"roles": ("input",), "rate": 5.0, "eps": 1e-10},
        "heads": {"roles": ("output",), "rate": 0.3, "eps": 1.0, "b1": 0.8},
    }
    train = dict(optimizer="muon", scale="spectral", groups=groups, clip_norm=0.0)
    config = decoder(data_folder, **train, weight_decay=0.0)
    assert config.train.groups.heads.eps == 1.0 and config.train.eps == 1e-8
    params = programs.parameter_shapes(config)
    grads = jax.tree.map(lambda x: np.full(x.shape, 1e-6, np.float32), params)
    moved = jax.jit(lambda g: steps.transform(config, g).update(g, optim.init(config, g), g)[0])
    updates = moved(grads)
    np.testing.assert_allclose(updates["embedding"], 5.0 * 1e-6 / (1e-6 + 1e-10), rtol=1e-4)
    np.testing.assert_allclose(updates["head"], 0.3 * 1e-6 / (1e-6 + 1.0), rtol=1e-4)
    np.testing.assert_allclose(updates["final_norm"]["scale"], 1e-6 / (1e-6 + 1e-8), rtol=1e-4)


def test_two_players_are_two_groups(tmp_path):
    """One step of descent and ascent on x y: each player has its rate and its momentum."""
    config = defaults.config("tests.tiny", "markov")
    config.model.update(vocab_size=8, width=16, depth=1, num_heads=1)
    players = {
        "generator": {"paths": ("before/*",), "rate": 0.5, "b1": 0.0},
        "discriminator": {"paths": ("after/*",), "rate": 2.0},
    }
    config.recipe = "fixed"
    train = dict(batch_size=8, steps=5, learning_rate=0.1, warmup_steps=0, groups=players)
    complete(config, **train, weight_decay=0.0, clip_norm=0.0)
    params = tiny.init(config, jax.random.key(0))

    def loss(config, params, batch, key, step):
        first, second = params["before"]["kernel"], params["after"]["kernel"]
        stop = jax.lax.stop_gradient
        return (first * stop(second)).sum() - (stop(first) * second).sum(), {}

    state = {"params": params, "opt_state": optim.init(config, params)}
    new, _ = optim.update(loss, config, state, {}, jax.random.key(0), 0, 0.1)
    moved = jax.tree.map(lambda a, b: np.asarray(b - a), params, new["params"])
    first, second = params["before"]["kernel"], params["after"]["kernel"]
    # Adam's first step is the sign of the gradient.
    np.testing.assert_allclose(moved["before"]["kernel"], -0.05 * np.sign(second), rtol=1e-3)
    np.testing.assert_allclose(moved["after"]["kernel"], 0.2 * np.sign(first), rtol=1e-3)


def test_schedule_free_is_the_averages_of_the_iterates():
    """On a line: optax's own chain of steps, at the same rate in each."""
    config = defaults.config("tests.tiny", "markov")
    config.model.update(vocab_size=8, width=16, depth=1, num_heads=1)
    config.recipe = "fixed"
    train = dict(optimizer="schedule_free", schedule="constant", weight_decay=0.0, clip_norm=0.0)
    complete(config, batch_size=8, steps=5, learning_rate=0.1, warmup_steps=0, **train)
    params = tiny.init(config, jax.random.key(0))

    def loss(config, params, batch, key, step):
        return sum(jnp.square(x - 1).sum() for x in jax.tree.leaves(params)), {}

    state = {"params": params, "opt_state": optim.init(config, params)}
    reference = optax.contrib.schedule_free_adamw(0.1, b1=0.9, b2=0.999, eps=1e-8)
    held, there = reference.init(params), params
    for step in range(5):
        state, _ = optim.update(loss, config, state, {}, jax.random.key(0), step, 0.1)
        grads = jax.tree.map(lambda x: 2 * (x - 1), there)
        updates, held = reference.update(grads, held, there)
        there = optax.apply_updates(there, updates)
    expected = optax.contrib.schedule_free_eval_params(held, there)
    for ours, theirs in zip(
        *map(jax.tree.leaves, (optim.evaluated(config, state), expected)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cautious", [False, True])
def test_decay_is_of_every_weight_or_of_those_that_shrink_anyway(cautious):
    config = defaults.config("tests.tiny", "markov")
    config.model.update(vocab_size=8, width=16, depth=1, num_heads=1)
    config.recipe = "fixed"
    train = dict(optimizer="sgd", weight_decay=0.5, clip_norm=0.0, cautious_decay=cautious)
    complete(config, batch_size=8, steps=5, learning_rate=0.1, warmup_steps=0, **train)
    params = tiny.init(config, jax.random.key(0))
    slopes = jax.tree.map(jnp.cos, params)

    def loss(config, params, batch, key, step):
        return sum(jax.tree.leaves(jax.tree.map(lambda x, g: (x * g).sum(), params, slopes))), {}

    state = {"params": params, "opt_state": optim.init(config, params)}
    new, _ = optim.update(loss, config, state, {}, jax.random.key(0), 0, 0.1)
    leaves = map(jax.tree.leaves, (params, slopes, new["params"]))
    known = roles.parameters(config, params).values()
    for each, before, slope, after in zip(known, *leaves, strict=True):
        decayed = 0.5 * before * (each.role != "scalar") * ((before * slope > 0) | (not cautious))
        np.testing.assert_allclose(after, before - 0.1 * (slope + decayed), rtol=1e-5)


TEXT = "experiments/quickstart.py:text"


def test_flags_name_an_optimizer_and_set_its_keys_in_any_order():
    flags = ["--config.train.momentum=0.5", "--config.train.optimizer=sgd"]
    with pytest.raises(UserError, match="train.learning_rate must be set"):  # none is known of it
        study.load_config(TEXT, flags, prepared=False)
    for order in (flags, flags[::-1]):
        rate = "--config.train.learning_rate=0.1"
        config = study.load_config(TEXT, [*order, rate], prepared=False)
        assert config.train.momentum == 0.5 and config.train.nesterov is False
        assert "b1" not in config.train
    assert study.load_config(TEXT, prepared=False).train.b2 == 0.95


@pytest.mark.parametrize(
    "train, message",
    [
        ({"optimizer": "moun"}, r"optimizer='moun' is not one of .* \(did you mean 'muon'\?\)"),
        ({"optimizer": "tests.shapes"}, "optimizer='tests.shapes' lacks default_train, RANGES"),
        ({"optimizer": "sgd", "momentun": 0.5}, r"'momentun' \(did you mean 'momentum'\?\)"),
        ({"optimizer": "sgd", "momentum": 1.0}, r"train.momentum=1.0 must be .* below 1"),
        ({"optimizer": "muon", "scale": "spectra"}, r"one of rms, spectral \(did you mean"),
        ({"optimizer": "muon", "neuron_b2": 1.0}, "neuron_b2=1.0 must be .* below 1"),
        (
            {"optimizer": "muon", "decayed": ("hiden",)},
            r"decayed='hiden' .* \(did you mean 'hidden'",
        ),
        ({"optimizer": "hypersphere", "cautious_decay": True}, "cautious_decay=True .* to False"),
        ({"optimizer": "hypersphere", "direction": "muom"}, r"direction='muom' .* 'muon'\?"),
        ({"optimizer": "muon", "frozen": ("stack/*",)}, "optimizer='muon' is for .* 'hidden'"),
        (
            {"groups": {"a": {"roles": ("scalar",), "optimizer": "muon"}}},
            "groups.a.optimizer='muon' is for parameters of the role 'hidden', .* none",
        ),
        ({"optimizer": "sgd", "momentum": "a"}, "train.momentum='a': expected float"),
        (
            {"optimizer": "schedule_free"},
            "schedule='wsd', ema_decay=0.0 and ema_widths=\\(\\) must be 'constant'",
        ),
        ({"frozen": ("stak/*",)}, r"frozen: 'stak/\*' fits no parameter"),
        ({"frozen": ("embeding",)}, r"fits no parameter \(did you mean 'embedding'\?\)"),
        ({"frozen": ("*",)}, "frozen leaves nothing to train"),
        ({"groups": {"a": {"rols": ()}}}, r"groups.a has no key 'rols' \(did you mean 'roles'\?\)"),
        ({"groups": {"a": {"roles": ("head",)}}}, "groups.a.roles: 'head' is not one of input"),
        ({"groups": {"a": {"rate": -1.0}}}, "groups.a.rate=-1.0 must be at least 0"),
        ({"groups": {"a": {}}}, "groups.a has no parameter"),
        (
            {"groups": {"a": {"roles": ("input",)}, "b": {"paths": ("embedding",)}}},
            "groups: a and b both have 'embedding'",
        ),
        (
            {"groups": {"a": {"paths": ("head",), "optimizer": "schedule_free"}}},
            "groups.a.optimizer='schedule_free'",
        ),
    ],
)
def test_what_cannot_be_is_refused(data_folder, train, message):
    with pytest.raises(UserError, match=message):
        decoder(data_folder, **train)


def test_rates_by_role_multiply_those_of_groups():
    """Each parameter's step is that of rate 1 times its role's and its group's rate."""
    config = shapes.autoregressive(zero_outputs=False)
    params = jax.jit(lambda: families.load(config.family).init(config, jax.random.key(0)))()
    known = roles.parameters(config, params)

    def updates(rates, group):
        config.train.rates.update(rates)
        config.train.groups = {"up": dict(paths=("*up*",), roles=(), rate=group)}
        config.train.weight_decay = 0.0
        transform = steps.transform(config, params)
        grads = jax.tree.map(jnp.ones_like, params)
        found = transform.update(grads, transform.init(params), params, learning_rate=1.0)[0]
        return roles.map_names(lambda name, x: (name, x), found)

    one = updates(dict(input=1.0, output=1.0, scalar=1.0), 1.0)
    rates = dict(input=5.0, output=0.25, scalar=3.0)
    many = updates(rates, 2.0)
    pairs = zip(
        *(jax.tree.leaves(t, is_leaf=lambda x: type(x) is tuple) for t in (one, many)), strict=True
    )
    for (name, before), (_, after) in pairs:
        factor = rates.get(known[name].role, 1.0) * (2.0 if "up" in name else 1.0)
        np.testing.assert_array_equal(after, factor * before)


@pytest.mark.parametrize("shape, half", [("sqrt", 1 - 0.5**0.5), ("linear", 0.5), ("cosine", 0.5)])
def test_a_cooldown_has_its_shape(shape, half):
    train = shapes.autoregressive().train
    train.update(steps=30, decay_steps=19, learning_rate=2.0, decay_shape=shape, warmup_steps=1)
    assert optim.learning_rate(train, 10) == 2.0
    assert optim.learning_rate(train, 20) == pytest.approx(2 * half)
    assert 0 < optim.learning_rate(train, 29) < 0.2
    rates = [optim.learning_rate(train, step) for step in range(10, 30)]
    assert rates == sorted(rates, reverse=True)
