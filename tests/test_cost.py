"""The ledger reads programs: it is the sum made by hand, XLA's count, or a refusal."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax import numpy as jnp

from research import cost, data, families
from research.errors import UserError
from research.models import moe
from tests import shapes

SHAPES = st.fixed_dictionaries(
    dict(
        depth=st.integers(1, 3),
        width=st.sampled_from([16, 32]),
        num_heads=st.sampled_from([2, 4]),
        num_kv_heads=st.sampled_from([0, 1, 2]),
        mlp_ratio=st.sampled_from([2.0, 2.5, 4.0]),
        activation=st.sampled_from(["relu2", "gelu", "swiglu"]),
        norm=st.sampled_from(["rmsnorm", "layernorm"]),
        qk_norm=st.booleans(),
        bias=st.booleans(),
    )
)
EXPERTS = dict(
    num_experts=st.sampled_from([2, 5]),
    capacity_factor=st.sampled_from([0.0, 0.4, 1.25]),
    shared_experts=st.sampled_from([0, 2]),
    router=st.sampled_from(["top_k", "sigmoid"]),
)
EXPERTS = st.one_of(st.just({}), st.fixed_dictionaries(EXPERTS | {"channel": st.just("moe")}))
MODELS = st.builds(lambda *both: both[0] | both[1], SHAPES, EXPERTS)


def by_hand(model, length: int, modulated: bool) -> tuple[int, int, int]:
    """Parameters, those no position meets and forward FLOPs of a stack, from its shape."""
    depth, width, heads = model.depth, model.width, model.num_heads
    qkv = (heads + 2 * (model.num_kv_heads or heads)) * (width // heads)
    hidden = round(width * model.mlp_ratio)
    up = hidden * (2 if model.activation == "swiglu" else 1)
    bias, perceptron = int(model.bias), width * up + hidden * width
    params = width * (qkv + width) + bias * (qkv + width)
    flops = 2 * length * width * (qkv + width) + 4 * length * length * width
    params += 0 if modulated else 2 * width * (1 + bias)
    params += 2 * (width // heads) * model.qk_norm
    idle = 0
    if model.channel == "moe":
        rows = length * model.experts_per_token
        if model.capacity_factor:
            rows = model.num_experts * moe.capacity(model, length)
        params += model.num_experts * (width + perceptron) + model.shared_experts * perceptron
        params += bias * (up * model.shared_experts + width) * (model.shared_experts > 0)
        rows += length * model.shared_experts
        flops += 2 * length * width * model.num_experts + 2 * rows * perceptron
        idle = (model.num_experts - model.experts_per_token) * perceptron
    else:
        params += perceptron + bias * (up + width)
        flops += 2 * length * perceptron
    if modulated:
        params, flops = params + 6 * width * (width + 1), flops + 12 * width * width
    return depth * params, depth * idle, depth * flops


@settings(max_examples=3)
@given(MODELS, st.booleans(), st.sampled_from([0, 8]))
def test_decoder_is_what_its_shape_says(model, tied, positions):
    keys: dict[str, Any] = dict(positions="learned", max_length=positions) if positions else {}
    config = shapes.autoregressive(**model, tie_embeddings=tied, **keys)
    ledger, chosen, length = cost.ledger(config), config.model, config.data.length
    params, idle, flops = by_hand(chosen, length, modulated=False)
    table = chosen.vocab_size * chosen.width
    ends = table * (1 if tied else 2) + positions * chosen.width
    final = chosen.width * (1 + chosen.bias)
    assert ledger.total_params == sum(ledger.params.values()) == params + ends + final
    assert ledger.non_embedding_params == params + final
    assert ledger.active_params == ledger.total_params - idle
    assert ledger.flops == flops + 2 * length * table
    assert ledger.step_flops == 3 * ledger.flops * config.train.batch_size
    assert ledger.score_flops == ledger.flops and ledger.tokens == length


@settings(max_examples=3)
@given(MODELS, st.sampled_from([0, 3]), st.sampled_from([0.0, 0.1]), st.sampled_from([2, 4]))
def test_diffusion_transformer_is_what_its_shape_says(model, classes, dropout, patch):
    config = shapes.diffusion(**model, num_classes=classes, patch_size=patch)
    config.model.class_dropout = dropout if classes else 0.0
    ledger, chosen, length = cost.ledger(config), config.model, (8 // patch) ** 2
    params, _, flops = by_hand(chosen, length, modulated=True)
    width, features, pixels = chosen.width, chosen.time_features, patch * patch
    labels = (classes + (chosen.class_dropout > 0)) * width if classes else 0
    params += pixels * width + width + features * width + width * width + 2 * width
    params += 2 * width * (width + 1)
    final = pixels * width + pixels
    flops += 2 * length * 2 * pixels * width + 2 * width * (features + width) + 4 * width * width
    assert ledger.total_params == params + labels + final
    assert ledger.non_embedding_params == params
    assert ledger.flops == flops and ledger.tokens == length
    assert ledger.step_flops == 3 * flops * config.train.batch_size
    assert ledger.score_flops == config.evaluation.time_samples * flops


def test_experts_cut_finer_cost_no_more_than_their_router():
    """Granularity 4: a quarter of the hidden units, four times as many experts and chosen ones."""

    def ledger(granularity):
        model: dict[str, Any] = dict(channel="moe", capacity_factor=0.0, mlp_ratio=4 / granularity)
        chosen = dict(num_experts=4 * granularity, experts_per_token=granularity)
        return cost.ledger(shapes.autoregressive(**model, **chosen))

    coarse, fine = ledger(1), ledger(4)
    depth, width, length, more = 2, 16, 8, 16 - 4
    assert fine.flops - coarse.flops == depth * 2 * length * width * more
    assert fine.total_params - coarse.total_params == depth * width * more
    assert fine.active_params - coarse.active_params == depth * width * more


def test_experts_that_choose_are_counted_by_what_they_take():
    """In a DiT, whose positions may see one another; two of five experts a position on average."""
    model: dict[str, Any] = dict(channel="moe", num_experts=5, num_classes=0, patch_size=2)
    config = shapes.diffusion(**model, router="expert_choice")
    families.check(config, data.outline(config.data))
    found, plain = cost.ledger(config), cost.ledger(shapes.diffusion(patch_size=2, num_classes=0))
    depth, width, length, perceptron = 2, 16, 16, 2 * 4 * 16**2
    taken = 5 * math.ceil(length * 2 / 5) - length
    assert found.flops - plain.flops == depth * 2 * (length * width * 5 + taken * perceptron)
    biases = plain.total_params - found.active_params + depth * (width * 5 + perceptron)
    assert biases == depth * 5 * width  # of the perceptron; experts have none


def test_scopes_are_the_modules():
    """A parameter and the products that read it stand in one scope; attention's own are two."""
    config = shapes.autoregressive(bias=True)
    ledger, width, length = cost.ledger(config), 16, config.data.length
    matrices = {"attention/qkv": 3, "attention/out": 1, "mlp/up": 4, "mlp/down": 4}
    for scope, times in matrices.items():
        assert ledger.forward_flops[scope] == 2 * 2 * length * times * width**2
        bias = {"mlp/up": 4 * width, "attention/qkv": 3 * width}.get(scope, width)
        assert ledger.params[scope] == 2 * (times * width**2 + bias)
    assert set(ledger.forward_flops) - set(matrices) - {"head"} < {"attention", "attention/scores"}
    grouped = cost.groups(ledger.forward_flops)
    assert set(grouped) == {"attention", "mlp", "head"}
    assert sum(grouped.values()) == ledger.flops


def test_rows_of_look_up_tables_count_apart():
    """A position meets one row of each: N without them is the network's own."""
    model = dict(value_embeddings=True, bigram_rows=50)
    plain, ledger = (cost.ledger(shapes.autoregressive(**m)) for m in ({}, model))
    vocab, width, layers, heads = 16, 16, 2, 2
    shares, gates, row = 2 * layers, heads * layers, width * (1 + layers)
    assert ledger.lookup_params == width * (50 + layers * vocab)
    assert ledger.total_params == plain.total_params + ledger.lookup_params + shares + gates
    assert ledger.active_params == plain.active_params + shares + gates + row
    assert ledger.non_embedding_params == plain.non_embedding_params + shares + gates
    assert ledger.flops == plain.flops and plain.lookup_params == 0


def test_hardware_never_changes_the_ledger_and_remat_is_counted_apart():
    config = shapes.autoregressive(depth=3)
    plain, step = dict(cost.ledger(config).forward_flops), cost.ledger(config).step_flops
    assert sum(cost.executed(config).values()) == step
    config.hardware.update(remat="full", attention="chunked", loss_chunks=2, accumulation=2)
    assert cost.ledger(config).forward_flops == plain and cost.ledger(config).step_flops == step
    again = sum(cost.executed(config).values()) - step
    # The head, and each block but its last product, whose result nobody reads.
    last = plain["mlp/down"]
    blocks = sum(plain.values()) - plain["head"] - last
    attention = plain.get("attention/scores", plain.get("attention", 0))
    assert again == 8 * (plain["head"] + blocks + attention // 2)


def test_one_shape_is_traced_once(monkeypatch):
    config = shapes.autoregressive()
    first = cost.ledger(config)
    config.train.steps, config.seed, config.size = 99, 3, 7
    assert cost.ledger(config) is first
    config.train.batch_size = 16
    assert cost.ledger(config).step_flops == 2 * first.step_flops


CONVOLUTIONS = {
    "plain": dict(window_strides=(1, 1), padding="SAME"),
    "valid and strided": dict(window_strides=(2, 3), padding="VALID"),
    "same and strided": dict(window_strides=(2, 2), padding="SAME"),
    "dilated kernel": dict(window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 2)),
    "transposed": dict(window_strides=(1, 1), padding=((2, 2), (1, 3)), lhs_dilation=(2, 2)),
    "grouped": dict(window_strides=(1, 2), padding="SAME", feature_group_count=4),
    "depthwise": dict(window_strides=(1, 1), padding="SAME", feature_group_count=8),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_are_xlas_count_and_their_gradients_twice_that(kind):
    options = CONVOLUTIONS[kind]
    groups = options.get("feature_group_count", 1)
    x, kernel = jnp.ones((2, 9, 8, 8)), jnp.ones((3, 3, 8 // groups, 16))

    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)

    flops = sum(cost.count(convolve, x, kernel).values())
    counted = jax.jit(convolve).lower(x, kernel).cost_analysis()
    assert counted is not None and flops == counted["flops"]
    both = cost.count(lambda *a: jax.vjp(convolve, *a)[1](convolve(*a)), x, kernel)
    assert sum(both.values()) == 4 * flops  # the convolution twice, here, and its two gradients


def test_transposed_convolution_is_its_own_reverse():
    x, kernel = jnp.ones((1, 5, 4)), jnp.ones((4, 4, 6))
    transposed = lambda x, w: lax.conv_transpose(x, w, (2,), "VALID")  # noqa: E731
    up = sum(cost.count(transposed, x, kernel).values())
    assert up == 2 * 5 * 4 * 4 * 6  # every input meets every tap


def test_loops_branches_and_inner_programs():
    w = jnp.ones((4, 4))

    def product(x, _):
        return x @ w, None

    one = 2 * 4**3
    assert sum(cost.count(lambda x: lax.scan(product, x, None, 7)[0], w).values()) == 7 * one
    nested = lax.cond
    branch = cost.count(lambda x: nested(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x, x), w)
    assert sum(branch.values()) == 2 * one
    solved = cost.count(lambda x: lax.custom_linear_solve(lambda v: w @ v, x, solve), w)
    assert sum(solved.values()) == one
    inner = cost.count(jax.checkpoint(jax.jit(jax.vmap(lambda x: w @ x))), jnp.ones((3, 4)))
    assert sum(inner.values()) == 2 * 3 * 4 * 4


def solve(matvec, b):
    return matvec(b)


def until(x):
    with jax.named_scope("settle"):
        return lax.while_loop(lambda x: x.sum() < 100, lambda x: x @ x, x)


def kernel(x):
    with jax.named_scope("elsewhere"):
        return jax.pure_callback(lambda x: x, x, x)


@pytest.mark.parametrize(
    "function, name, scope",
    [(until, "while", "settle"), (kernel, "pure_callback", "elsewhere")],
)
def test_what_cannot_be_read_is_refused_unless_declared(function, name, scope):
    x = jnp.ones((2, 2))
    with pytest.raises(UserError, match=f"`{name}` in scope '{scope}' cannot be read"):
        cost.count(function, x)
    assert cost.count(function, x, declared={scope: 80}) == {scope: 80}


def test_loop_without_products_is_no_loss():
    def count(x):
        return lax.while_loop(lambda x: x < 10, lambda x: x + 1, x)

    assert cost.count(count, np.float32(0)) == {}
