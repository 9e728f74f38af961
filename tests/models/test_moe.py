"""The mixture of experts: routing, its gradients, and the cases that are something else."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research import data, mesh, programs
from research.models import common, mlp, moe, token_choice
from tests import shapes
from tests.layouts import QUICK

KEY = jax.random.key(0)


def model(**keys):
    return FrozenConfigDict(shapes.autoregressive(channel="moe", **keys).model)


X_2x6x16 = jax.random.normal(KEY, (2, 6, 16))
WHOLE = [  # mixtures in which every expert is used by every position
    dict(capacity_factor=1.0),
    dict(capacity_factor=0.0),
    dict(router="expert_choice"),
]


def test_one_expert_is_the_perceptron():
    x = jax.random.normal(KEY, (2, 6, 16))
    one = model(num_experts=1, experts_per_token=1, activation="swiglu")
    params = shapes.init(moe.MoE(one, jnp.float32), KEY, x)
    y, measures, _ = shapes.apply(moe.MoE(one, jnp.float32), params, x)
    dense = {name: {"kernel": params[name][0]} for name in ("gate", "up", "down")}
    np.testing.assert_allclose(
        y, shapes.apply(mlp.MLP(one, jnp.float32), dense, x)[0], rtol=1e-5, atol=1e-6
    )
    assert float(measures["balance"]) == pytest.approx(1, abs=1e-6)
    assert float(measures["dropped"]) == 0


def test_equal_experts_are_one():
    """Whoever is chosen, the weights sum to 1; with room for all nothing is dropped."""
    x = jax.random.normal(KEY, (2, 6, 16))
    four = model(num_experts=4, experts_per_token=2, capacity_factor=2.0)
    module = moe.MoE(four, jnp.float32)
    params = shapes.init(module, KEY, x)
    params |= {name: params[name][:1].repeat(4, 0) for name in ("up", "down")}
    y, measures, _ = shapes.apply(module, params, x)
    dense = {name: {"kernel": params[name][0]} for name in ("up", "down")}
    np.testing.assert_allclose(
        y, shapes.apply(mlp.MLP(four, jnp.float32), dense, x)[0], rtol=1e-5, atol=1e-6
    )
    assert float(measures["dropped"]) == 0


@pytest.mark.parametrize("chosen", [0, 3])
def test_balance_grows_as_routing_narrows(chosen):
    """1 when the router is even; the number of experts when all choose one (Fedus 2021)."""
    x = jnp.abs(jax.random.normal(KEY, (2, 8, 16)))
    module = moe.MoE(model(num_experts=4, experts_per_token=1, router_z_weight=0.1), jnp.float32)
    params = shapes.init(module, KEY, x)
    apply = jax.jit(lambda router: common.apply(module, params | {"router": router}, x)[1])
    even = apply(jnp.zeros((16, 4)))
    assert float(even["balance"]) == pytest.approx(1)
    assert float(even["router_z"]) == pytest.approx(np.log(4) ** 2)  # Zoph et al. 2022, eq. 5
    measures = apply(jnp.zeros((16, 4)).at[:, chosen].set(100.0))
    assert float(measures["balance"]) == pytest.approx(4)
    assert float(measures["load_max"]) == 4 and float(measures["experts_used"]) == 1 / 4
    assert float(measures["router_z"]) == pytest.approx(1e4 * np.square(x.sum(-1)).mean(), rel=1e-5)
    room = moe.capacity(module.model, 8)
    assert float(measures["dropped"]) == pytest.approx(1 - room / 8)
    total = 0.01 * measures["balance"] + 0.1 * measures["router_z"]
    assert float(moe.penalty(module.model, measures)) == pytest.approx(float(total))


def test_load_by_hand():
    """Half of the choices, a quarter, a quarter and none."""
    expert = jnp.array([[[0, 1], [0, 2]], [[0, 1], [0, 2]]])
    routing = token_choice.Routing(jnp.ones((2, 2, 2)), expert, jnp.full((2, 2, 4), 0.25))
    found = moe.load(routing, None)
    assert float(found["load_max"]) == 2
    assert float(found["experts_used"]) == pytest.approx(2 ** (0.5 + 0.5 + 0.5) / 4)
    assert float(found["balance"]) == 1


def test_every_expert_at_once_is_the_dense_mixture():
    """Whoever chooses, and with slots or without: sum over experts of p_e(x) perceptron_e(x)."""
    keys: dict[str, Any] = dict(num_experts=3, experts_per_token=3, activation="swiglu")
    modules = [moe.MoE(model(**keys, **how), jnp.float32) for how in WHOLE]
    params = shapes.init(modules[0], KEY, X_2x6x16)

    def dense(params):
        up, gate = (jnp.einsum("bld,edf->belf", X_2x6x16, params[n]) for n in ("up", "gate"))
        y = jnp.einsum("belf,efd->beld", jax.nn.silu(gate) * up, params["down"])
        return jnp.einsum("beld,ble->bld", y, jax.nn.softmax(X_2x6x16 @ params["router"]))

    @jax.jit
    def gradients(params):
        weight = jax.random.normal(KEY, X_2x6x16.shape)
        runs = [lambda p, m=m: common.apply(m, p, X_2x6x16)[0] for m in modules]
        total = [lambda p, y=y: (y(p) * weight).sum() for y in (*runs, dense)]
        return [jax.value_and_grad(each)(params) for each in total]

    *found, expected = gradients(params)
    for each in found:
        for one, other in zip(*map(jax.tree.leaves, (each, expected)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_nobody_dropped_is_room_for_all():
    """Values and gradients, some experts of some sequences being empty."""
    keys: dict[str, Any] = dict(num_experts=6, experts_per_token=2, router="sigmoid")
    modules = [moe.MoE(model(capacity_factor=c, **keys), jnp.float32) for c in (0.0, 3.0)]
    params = shapes.init(modules[0], KEY, X_2x6x16)

    @jax.jit
    def gradients(params, x):
        def run(params, x, module):
            y, measures, _ = common.apply(module, params, x)
            return (y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)).sum(), (y, measures)

        return [jax.value_and_grad(run, (0, 1), has_aux=True)(params, x, m) for m in modules]

    ((_, (y, measures)), found), ((_, (y_slots, of_slots)), expected) = gradients(params, X_2x6x16)
    np.testing.assert_allclose(y, y_slots, rtol=1e-5, atol=1e-6)
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert of_slots.pop("dropped") == 0 and measures == of_slots
    assert 1 < float(measures["load_max"]) < 3 > 6 * float(measures["experts_used"]) / 2


def test_shared_experts_alone_are_a_perceptron_and_a_position_asks_nobody():
    """Two of ratio 2 are one of ratio 4. Without slots, what a position gets is its own affair."""
    keys: dict[str, Any] = dict(num_experts=4, mlp_ratio=2.0, capacity_factor=0.0)
    both = moe.MoE(model(shared_experts=2, **keys), jnp.float32)
    params = shapes.init(both, KEY, X_2x6x16)
    wide = mlp.MLP(model(**keys | {"mlp_ratio": 4.0}), jnp.float32)

    @jax.jit
    def run(params, x):
        silent = params | {"down": jnp.zeros_like(params["down"])}
        whole, alone = (common.apply(both, params, each)[0] for each in (x, x[:, 4:5]))
        of_shared = common.apply(wide, params["shared"], x)[0]
        return whole, alone, common.apply(both, silent, x)[0], of_shared

    whole, alone, shared, of_shared = run(params, X_2x6x16)
    np.testing.assert_array_equal(shared, of_shared)
    np.testing.assert_allclose(alone, whole[:, 4:5], rtol=1e-5, atol=1e-6)
    assert np.abs(whole - shared).max() > 0.1
    assert moe.empty_cache(both.model, 2, 6) is None


def test_experts_choose_whom_they_like_best():
    """Each of two takes three of six positions; whom neither takes gets nothing."""
    module = moe.MoE(model(num_experts=2, experts_per_token=1, router="expert_choice"), jnp.float32)
    params = shapes.init(module, KEY, X_2x6x16)
    y, measures, _ = shapes.apply(module, params, X_2x6x16)
    liked = np.asarray(jax.nn.softmax(X_2x6x16 @ params["router"]))
    rank = np.argsort(np.argsort(-liked, 1), 1)
    np.testing.assert_array_equal((rank < 3).any(-1), np.abs(y).max(-1) > 0)
    assert float(measures["unchosen"]) == pytest.approx((rank >= 3).all(-1).mean())


def test_a_bias_is_for_choosing_and_is_steered_by_no_loss():
    """Weights are the scores' own. Its gradient is the load's excess, others' are as ever."""
    score = jnp.array([[[0.5, 0.4, 0.1]]])
    chosen = token_choice.favourites(
        model(experts_per_token=2, num_experts=3), score, score, jnp.array([-1.0, 0.0, 0.0])
    )
    assert chosen.expert_BxLxP.tolist() == [[[1, 2]]]
    np.testing.assert_allclose(chosen.weight_BxLxP, [[[0.8, 0.2]]], rtol=1e-6)
    alone = token_choice.favourites(model(experts_per_token=1, num_experts=3), score, score, None)
    assert alone.weight_BxLxP.item() == 0.5  # not 1, by which the router would learn nothing

    keys: dict[str, Any] = dict(num_experts=4, experts_per_token=1, capacity_factor=0.0)
    steered, plain = (model(balance_rate=rate, **keys) for rate in (1.0, 0.0))
    params = shapes.init(moe.MoE(steered, jnp.float32), KEY, X_2x6x16)

    @jax.jit
    def gradients(params):
        def run(params, keys):
            y, measures, _ = common.apply(moe.MoE(keys, jnp.float32), params, X_2x6x16)
            return jnp.square(y).sum() + moe.penalty(keys, measures), measures

        return [jax.value_and_grad(run, has_aux=True)(params, keys) for keys in (steered, plain)]

    ((value, measures), found), ((other, _), expected) = gradients(params)
    assert value == other and not expected["bias"].any()
    chosen = np.argmax(X_2x6x16 @ params["router"], -1)
    excess = 4 * np.bincount(chosen.ravel(), minlength=4) / chosen.size - 1
    np.testing.assert_allclose(found.pop("bias"), moe.STEER * excess, rtol=1e-5)
    assert float(measures["load_max"]) == pytest.approx(1 + excess.max())
    jax.tree.map(np.testing.assert_array_equal, found, {n: expected[n] for n in found})


@pytest.mark.slow
def test_a_bias_evens_the_load_in_plain_training(data_folder):
    """The router is frozen and likes one expert; only the bias can bring others in."""
    config = shapes.autoregressive(
        depth=1, channel="moe", num_experts=4, experts_per_token=1, capacity_factor=0.0,
        balance_rate=4.0, balance_weight=0.0,
    )  # fmt: skip
    config.train.frozen = ("*router",)
    config.data.folder, config.hardware.mesh.data = str(data_folder), 1
    program = programs.build(config, jax.devices()[:1])
    state = program.init(KEY)
    mixture = state["params"]["stack"]["blocks"]["mlp"]
    mixture["router"] = mixture["router"].at[:, :, 2].multiply(4)
    batch = next(data.batches(data.load(config.data, "train"), config.train.batch_size, 0))
    loads = []
    for step in range(30):
        state, metrics = program.step(state, batch, KEY, np.int32(step), np.float32(1e-2))
        loads.append(float(metrics["load_max"]))
    bias = np.asarray(state["params"]["stack"]["blocks"]["mlp"]["bias"])[0]
    assert loads[-1] < 1.4 < 1.6 < loads[0]
    assert bias.argmin() == 2


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [dict(fsdp=2, expert=2, tensor=2), dict(expert=4, sequence=2)])
def test_experts_apart_are_experts_together(sizes):
    """Eight devices equal one; the second time the batch is too small to be split."""
    batch = 4 if "fsdp" in sizes else 1
    x = jax.random.normal(KEY, (batch, 6, 16))
    module = moe.MoE(model(num_experts=4, capacity_factor=0.0), jnp.float32)
    params = shapes.init(module, KEY, x)

    def gradients(params, x):
        def run(params, x):
            y, measures, _ = common.apply(module, params, x)
            return jnp.square(y).sum() + moe.penalty(module.model, measures)

        return jax.value_and_grad(run, (0, 1))(params, x)

    wanted = mesh.default_mesh()
    wanted.update(data=1, **sizes)
    grid = mesh.make(wanted)

    def split(params, x):
        with jax.sharding.use_abstract_mesh(grid.abstract_mesh):
            return gradients(params, x)

    everywhere = mesh.replicated(grid)
    many = jax.jit(split, in_shardings=everywhere).lower(params, x).compile(QUICK)(params, x)
    for one, other in zip(
        *map(jax.tree.leaves, (many, jax.jit(gradients)(params, x))), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
