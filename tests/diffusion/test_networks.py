"""Every network of diffusion: zero at the start, all of it learns, published sizes, any layout."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research import cost, families, mesh, parts, presets, trained
from research.data import source
from research.errors import UserError
from research.families import diffusion
from research.families.diffusion import denoiser, image_conditions
from research.models import axial_rotary, common, unet
from research.train import train
from tests import shapes as tests_shapes

SHAPE, WORDS, ROWS = (8, 8, 1), {"length": 4, "vocab_size": 6}, 4
SPEC = {"shape": SHAPE, "num_classes": 3, "discrete": False, "text": WORDS}
TEXT = dict(text_vocab=6, text_length=4)
UNET: dict[str, Any] = dict(
    network="unet", width=8, channel_multipliers=(1, 2), attention_resolutions=(), head_width=8,
    time_features=8, blocks_per_level=1, norm_groups=4,
)  # fmt: skip
CONTROL = dict(image_condition="around", image_input="control")
PLAIN: dict[str, Any] = dict(positions="none")
AXIAL: dict[str, Any] = dict(positions="axial_rotary")
NETWORKS: dict[str, dict[str, Any]] = {
    "in_context": AXIAL | TEXT | dict(condition="in_context", registers=2, grid_embedding=False),
    "unet": UNET,
    "mmdit": AXIAL | TEXT | dict(network="mmdit", fourier_features=(1,)),
    "uvit": PLAIN | TEXT | dict(network="uvit"),
    "cross": PLAIN | TEXT | dict(condition="cross"),
    "shared": PLAIN | TEXT | dict(condition="adaln_shared", num_classes=0, class_dropout=0.0),
    "control": PLAIN | CONTROL,
    "unet_control": UNET | CONTROL,
    "unet_of_ddpm": UNET
    | dict(resample="convolution", told="shift", head_width=4, attention_resolutions=(8,))
    | dict(num_classes=0, class_dropout=0.0),
    "concatenated": PLAIN | dict(image_condition="low_resolution", image_noise=0.1),
}
FEW = ("in_context", "mmdit")
EACH = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in NETWORKS]
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def make_config(name: str = "", **changes) -> Any:
    changes = NETWORKS[name] | changes if name else changes
    model = ConfigDict(parts.keys(diffusion, changes))
    small = dict(depth=2, width=16, num_heads=2, patch_size=4, text_depth=1, time_features=8)
    model.update({key: small[key] for key in small if key in model})
    model.update(image_shape=SHAPE, num_classes=3, class_dropout=0.1, discrete=False)
    model.update(changes)
    config = tests_shapes.diffusion()
    config.model, config.hardware.unroll = model, 1
    return config


@functools.cache
def batch_of() -> Any:
    generator = np.random.default_rng(0)
    text = np.array([[1, 2, 3, 4], [5, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0]], np.int32)
    return {
        "image": generator.normal(size=(ROWS, *SHAPE)).astype(np.float32),
        "label": np.array([0, 1, 2, 0], np.int32),
        "text": text,
    }


@functools.cache
def random_params(name: str) -> Any:
    """Parameters of the right shapes, none of them zero."""
    config, generator = make_config(name), np.random.default_rng(7)
    with common.undrawn():
        found = jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0)))
    return jax.tree.map(lambda x: generator.normal(0, 0.2, x.shape).astype(x.dtype), found)


def measured(config: Any, params: Any, batch: Any) -> Any:
    """The network's output of the batch, and loss and gradient."""
    given = denoiser.known(config, batch, jax.random.key(2))._replace(gamma_B=jnp.arange(4.0) - 2)
    output, _ = denoiser.apply(config, params, batch["image"], given)

    def loss(params):
        return diffusion.loss(config, params, batch, jax.random.key(1), jnp.int32(0))[0]

    return output, *jax.value_and_grad(loss)(params)


@functools.cache
def compiled(name: str) -> Any:
    config = FrozenConfigDict(make_config(name))
    run = jax.jit(functools.partial(measured, config))
    return run.lower(random_params(name), batch_of()).compile(compiler_options=QUICK)


@functools.cache
def result(name: str) -> Any:
    return compiled(name)(random_params(name), batch_of())


def fresh(config: Any) -> Any:
    return jax.jit(lambda key: diffusion.init(config, key))(jax.random.key(0))


@pytest.mark.parametrize("name", EACH)
def test_output_is_zero_at_the_start(name):
    output, *_ = compiled(name)(fresh(make_config(name)), batch_of())
    assert output.shape == (ROWS, *SHAPE) and output.dtype == jnp.float32
    assert not np.any(output)


@pytest.mark.parametrize("name", EACH)
def test_every_parameter_learns(name):
    """Where none is zero, no gradient is: not of a class, a word or a place that was not there."""
    output, value, gradient = result(name)
    assert np.all(np.isfinite(output)) and np.isfinite(value)
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.any(leaf)
    ]
    assert not still


TEXTS = (
    "in_context",
    "mmdit",
    *(pytest.param(each, marks=pytest.mark.slow) for each in ("uvit", "cross")),
)


@pytest.mark.parametrize("name", TEXTS)
def test_padding_of_a_text_is_seen_by_nothing(name):
    """The last two places are padding but in row 0: what stands there changes nothing else."""
    params = jax.tree.map(np.copy, random_params(name))
    params["text"]["positions"][2:] += 1
    output, *_ = compiled(name)(params, batch_of())
    same = [np.array_equal(*rows) for rows in zip(output, result(name)[0], strict=True)]
    assert same == [False, True, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("sizes", [dict(fsdp=2, tensor=2), dict(fsdp=2, sequence=2)], ids=str)
def test_a_layout_changes_nothing(name, sizes):
    config = make_config(name)
    grid = mesh.make(ConfigDict({**mesh.default_mesh(), "data": 1, **sizes}), jax.devices()[:4])
    params = random_params(name)
    layout = mesh.shardings(grid, diffusion.axes(config), params)

    def run(params, batch):
        with jax.sharding.use_abstract_mesh(grid.abstract_mesh):
            return measured(config, params, batch)

    placed = jax.tree.map(jax.device_put, params, layout)
    batch = jax.device_put(batch_of(), mesh.batch_sharding(grid))
    lowered = jax.jit(run, in_shardings=(layout, mesh.batch_sharding(grid))).lower(placed, batch)
    many = lowered.compile(compiler_options=QUICK)(placed, batch)
    for a, b in zip(*(jax.tree.leaves(each) for each in (many, result(name))), strict=True):
        assert np.linalg.norm(a - b) <= 2e-5 * np.linalg.norm(b) + 1e-9


@pytest.mark.parametrize("name", [name for name in presets.DENOISERS if "dit" not in name])
def test_published_sizes(name):
    """U-ViT's as its code builds it, without biases of queries, keys and values, which ours has."""
    published, model = presets.denoiser(name)
    config = make_config()
    config.model = model
    with common.undrawn():
        found = jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0)))
    total = sum(leaf.size for leaf in jax.tree.leaves(found))
    ours = 3 * model.width * (model.depth + 1) if model.network == "uvit" else 0
    assert total - ours == published.total


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(UserError, match="'dit_xl_3' is no preset .did you mean 'dit_xl_"):
        presets.denoiser("dit_xl_3")


def test_the_ledger_reads_convolutions():
    """Of a U-Net of one level without attention but in the middle: by hand."""
    config = make_config("unet", channel_multipliers=(1,), num_classes=0, class_dropout=0.0)
    spec = source.images(SHAPE, "a", discrete=False)
    width, pixels, edge = 8, 64, 22 * 22 / 64  # taps that are inside of an 8x8 image, a pixel

    def conv(inputs: int, outputs: int) -> int:
        return int(2 * edge * pixels * inputs * outputs)

    emb, told = 4 * width, 2 * 2 * 4 * width * width
    flops = 2 * (8 * emb + emb * emb) + conv(1, width) + conv(width, 1)
    flops += 3 * (2 * conv(width, width) + told)  # one on the way down, two in the middle
    flops += 2 * (conv(2 * width, width) + conv(width, width) + told)  # two on the way up
    flops += 2 * 2 * pixels * 2 * width * width
    flops += 2 * pixels * 4 * width * width + 2 * 2 * pixels * pixels * width
    assert cost.Ledger(config, spec).flops == flops


def test_scores_turn_with_rows_and_columns_apart():
    """Of one query and one key everywhere, a score is a function of both differences alone."""
    model = FrozenConfigDict(dict(image_shape=(6, 8, 1), patch_size=2, rotary_base=100.0))
    query, key = np.random.default_rng(0).normal(size=(2, 16))
    tokens = 2  # before the patches, which are not turned
    turned = [
        np.asarray(axial_rotary.turn(model, jnp.broadcast_to(each, (tokens + 12, 16))), np.float64)
        for each in (query, key)
    ]
    scores = turned[0] @ turned[1].T
    np.testing.assert_allclose(scores[:tokens, :tokens], query @ key, rtol=1e-5)
    grid = scores[tokens:, tokens:].reshape(3, 4, 3, 4)
    for row, column in np.ndindex(3, 4):
        starts = np.ndindex(3 - row, 4 - column)
        found = [grid[r, c, r + row, c + column] for r, c in starts]
        np.testing.assert_allclose(found, grid[0, 0, row, column], rtol=1e-4, atol=1e-5)
    assert abs(grid[0, 0, 1, 0] - grid[0, 0, 0, 1]) > 1e-2


@pytest.mark.slow
def test_channels_of_a_norm_keep_company():
    """As many groups as DDPM and ADM have at their widths, and never one channel alone."""
    model = ConfigDict(parts.keys(diffusion, {"network": "unet"}))
    counts = {channels: unet.groups(model, channels) for channels in (2, 4, 8, 24, 128, 192)}
    assert counts == {2: 1, 4: 1, 8: 2, 24: 6, 128: 32, 192: 32}
    model.group_channels = 1
    assert unet.groups(model, 8) == 8


@pytest.mark.parametrize("name", ["control", "unet_control"])
def test_control_starts_as_the_network_without(name):
    """With the parameters of any trunk, the output is that trunk's, to the bit, whatever image."""
    config, params = make_config(name), random_params(name)
    start = fresh(config)
    plain = make_config(name, image_condition="none", image_input="concatenate")
    with common.undrawn():
        trunk = jax.eval_shape(lambda: diffusion.init(plain, jax.random.key(0)))

    def filled(path, leaf):
        found = params
        for each in path:
            found = found[each.key]
        return found

    trunk = jax.tree_util.tree_map_with_path(filled, trunk)
    steered = _merged(start, trunk)
    found, *_ = compiled(name)(steered, batch_of())
    run = jax.jit(functools.partial(measured, FrozenConfigDict(plain)))
    expected = run.lower(trunk, batch_of()).compile(compiler_options=QUICK)(trunk, batch_of())[0]
    assert np.array_equal(found, expected)
    assert not np.array_equal(result(name)[0], expected)  # but not after training


def _merged(tree: Any, other: Any) -> Any:
    """`tree` in which the leaves of `other` took the places of its own."""
    if not isinstance(tree, dict):
        return other
    return {key: _merged(tree[key], other[key]) if key in other else tree[key] for key in tree}


def test_low_resolution_and_what_is_around():
    model = make_config("concatenated", image_noise=0.0).model
    x0 = jnp.asarray(batch_of()["image"])
    small = image_conditions.smaller(x0, 2)
    assert np.allclose(small[1, 2, 3, 0], x0[1, 4:6, 6:8, 0].mean(), atol=1e-6)
    given = image_conditions.low_resolution(model, x0, jax.random.key(0))
    assert given.shape == x0.shape
    assert np.array_equal(given, image_conditions.larger(small, 2))
    np.testing.assert_allclose(image_conditions.smaller(given, 2), small, atol=1e-6)
    many = jnp.ones((64, *SHAPE))
    seen, hidden = jnp.split(image_conditions.around(model, many, jax.random.key(1)), 2, -1)
    assert np.array_equal(seen, 1 - hidden) and 0.05 < hidden.mean() < 0.3
    rows, columns = hidden.max(2)[..., 0], hidden.max(1)[..., 0]
    assert np.array_equal(hidden[..., 0], rows[:, :, None] * columns[:, None])  # one rectangle


def test_hidden_texts_are_no_text():
    config = make_config("in_context", text_dropout=1 - 1e-7)
    known = denoiser.known(config, batch_of(), jax.random.key(0))
    assert not np.any(denoiser.hide(config, jax.random.key(0), known).text_BxS)
    config.model.text_dropout = 0.0
    kept = denoiser.hide(config, jax.random.key(0), known).text_BxS
    assert np.array_equal(kept, batch_of()["text"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in_context", "control", "unet", "concatenated"])
def test_scores_and_samples(name):
    """Text and images go all the way; a text changes what is drawn from the same noise."""
    config = make_config(name)
    config.sampling.steps, params = 2, random_params(name)
    score = jax.jit(lambda params, batch: diffusion.score(config, params, batch, jax.random.key(0)))
    bits = score(params, batch_of())["bound"]
    assert np.isfinite(bits["total"]) and bits["count"] == ROWS * 64
    given: Any = dict(label=jnp.zeros(2, jnp.int32))
    drawn = diffusion.sample(config, params, jax.random.key(0), 2, **given)
    assert drawn.shape == (2, *SHAPE) and np.all(np.isfinite(drawn))
    if config.model.text_vocab:
        text = jnp.array([[0, 0, 0, 0], [1, 2, 0, 0]])
        told = diffusion.sample(config, params, jax.random.key(0), 2, text=text, **given)
        assert np.array_equal(told[0], drawn[0]) and not np.array_equal(told[1], drawn[1])


@pytest.mark.parametrize("name", ["in_context", "mmdit", "uvit", "unet", "control"])
def test_good_configs_pass(name):
    config = make_config(name)
    families.check(config, SPEC)


@pytest.mark.parametrize(
    "name, key, value, words",
    [
        ("shared", "condition", "adaln_zero", "condition='adaln_zero' is not one of .*mean 'adaln"),
        ("shared", "zero_outputs", True, "gates start at zero"),
        ("shared", "registers", -1, "registers=-1 must be at least 0"),
        ("shared", "text_vocab", 7, "text_vocab=7 must be 6, as the text"),
        ("shared", "text_length", 5, "text_length=5 must be 4"),
        ("shared", "text_dropout", 1.0, r"text_dropout=1.0 must be in \[0, 1\)"),
        ("shared", "text_depth", 0, "text_depth=0 must be at least 1"),
        ("in_context", "num_heads", 8, "multiple of 4 features, got width/num_heads=2"),
        ("uvit", "depth", 1, "depth=1 must be at least 2"),
        ("uvit", "pattern", ("attention=full",), "pattern=.* must be .* for .*uvit"),
        ("mmdit", "text_vocab", 0, "joins a text and an image.*or use network 'dit'"),
        ("mmdit", "norm_place", "post", "norm_place='post' must be 'pre'"),
        ("unet", "attention_resolutions", (5,), "has 5, .*nearest valid: 4"),
        ("unet", "channel_multipliers", (1, 1, 1, 1, 1), r"4 times; nearest valid: \(1, 1, 1, 1\)"),
        ("unet", "group_channels", 0, "group_channels=0 must be at least 1"),
        ("unet", "head_width", -1, "head_width=-1 must be at least 0"),
        ("unet", "resample", "residuals", "did you mean 'residual'"),
        ("unet", "told", "films", "did you mean 'film'"),
        ("unet", "text_vocab", 6, "reads no text: use dit, uvit or mmdit"),
        ("control", "control_depth", 3, "control_depth=3 must be from 0 to config.model.depth=2"),
        ("control", "image_condition", "none", "has no image to read"),
        ("control", "image_condition", "low_res", "did you mean 'low_resolution'"),
        ("control", "image_input", "controls", "did you mean 'control'"),
        ("control", "residual_scalars", True, "residual_scalars=True must be False"),
        ("concatenated", "image_factor", 3, "image_factor=3 .*nearest valid: 2"),
        ("concatenated", "image_noise", -1.0, "must not be negative"),
    ],
)
def test_bad_configs_are_refused(name, key, value, words):
    config = make_config(name)
    config.model[key] = value
    with pytest.raises(UserError, match=words):
        families.check(config, SPEC)


def test_what_a_network_cannot_read_is_refused():
    config = make_config("uvit", image_condition="around", image_input="control")
    with pytest.raises(UserError, match="network 'uvit' has no copies .*use 'concatenate'"):
        families.check(config, SPEC)
    with pytest.raises(UserError, match="text_vocab=6: 'gaussian_mixture' gives no text; nearest"):
        families.check(make_config("in_context"), {k: SPEC[k] for k in SPEC if k != "text"})


@pytest.mark.parametrize("name", ["unet", "uvit", "mmdit", "control"])
def test_layers_that_do_not_go_round_are_refused(name):
    config = make_config(name)
    sizes = {**dict.fromkeys(mesh.AXES, 1), "stage": 2}
    machine = parts.Machine(sizes, "cpu", lambda: 16)
    with pytest.raises(UserError, match="mesh.stage=2 .*use mesh.fsdp or mesh.tensor"):
        parts.check_hardware(diffusion, config, machine)
    config.hardware.attention, machine = "splash", machine._replace(sizes=dict.fromkeys(sizes, 1))
    if name == "unet":
        with pytest.raises(UserError, match="attention='splash': .*use dense or chunked"):
            parts.check_hardware(diffusion, config, machine)


@pytest.mark.slow
def test_a_frozen_trunk_of_another_run_is_steered(tmp_path, data_folder):
    """What `init_from.run` filled stays as it was; the copies' changes and their maps learn."""

    def run(name, **changes):
        config = tests_shapes.diffusion(**changes)
        config.data.folder, config.sampling.num = str(data_folder), 0
        return config, tmp_path / name

    plain, first = run("trunk")
    train(plain, first)
    steered, second = run("steered", **CONTROL)
    steered.init_from.run = str(first)
    steered.train.frozen = ("patches/*", "time/*", "stack/blocks/*", "final*")
    train(steered, second)
    trunk, params = (trained.load(folder)[1] for folder in (first, second))
    learned = {"hint": params.pop("hint"), "control": params["stack"].pop("control")}
    jax.tree.map(np.testing.assert_array_equal, params, trunk)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(learned["hint"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(learned["control"]["block"]))
