"""The loop: golden steps, every mesh equals one device, a branch of state onto another mesh."""

import functools

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from research import data, optim, programs, study
from research.errors import UserError
from research.evaluation import evaluate
from research.run import checkpoint
from research.train import train
from tests import shapes


def autoencoder(**model) -> ConfigDict:
    """Transformers to a ladder of latents and back."""
    chosen = dict(network="transformer_coder", bottleneck="ladder", likelihood="gaussian")
    return shapes.autoencoder(num_heads=2, **chosen, **model)


FAMILIES = {
    "autoencoder": autoencoder,
    "autoregressive": shapes.autoregressive,
    "diffusion": shapes.diffusion,
    "discrete_diffusion": shapes.discrete_diffusion,
    "energy": shapes.energy,
    "flow": functools.partial(shapes.flow, flow="transformer_flow", flow_layers=2),
    "gan": shapes.gan,
}
PERCEPTRONS = ("energy", "gan")  # the networks of these; the others' are Transformers


@pytest.fixture(params=FAMILIES)
def config(request, data_folder) -> ConfigDict:
    tree = FAMILIES[request.param]()
    tree.data.folder = str(data_folder)
    return tree


def losses(config: ConfigDict, steps: int = 3) -> np.ndarray:
    """[steps, 2]: loss and gradient norm of the first steps."""
    program = programs.build(config)
    state, key = program.init(jax.random.key(0)), jax.random.key(config.seed)
    batches = data.batches(data.load(config.data, "train"), config.train.batch_size, 0)
    rows = []
    for index in range(steps):
        batch = jax.device_put(next(batches), program.batch)
        rate = np.float32(optim.learning_rate(config.train, index))
        state, metrics = program.step(state, batch, key, np.int32(index), rate)
        rows.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(rows)


GOLDEN = {
    "autoencoder": [[3.2285676, 2.9011035], [3.5595069, 3.1957939], [2.9368067, 1.7512596]],
    "autoregressive": [[2.7725887, 0.7026162], [2.7493596, 0.8184264], [2.6991649, 0.7218189]],
    "diffusion": [[0.964608, 0.6307675], [0.9175618, 0.726356], [1.0269458, 0.6511294]],
    "discrete_diffusion": [
        [2.7725887, 0.8967052],
        [2.7739322, 1.1994687],
        [2.7269824, 0.9145746],
    ],
    "energy": [[0.0033853, 0.0263109], [-0.0058527, 0.0482181], [-0.004236, 0.0410213]],
    "flow": [[1.7321521, 1.1915879], [2.1773183, 1.8557428], [1.8854113, 1.100657]],
    "gan": [[0.6528124, 0.8473935], [0.7347386, 0.8702356], [0.6954701, 1.336171]],
}


def test_golden_steps(config):
    """A difference here means that initialisation, data order, loss or optimizer changed."""
    np.testing.assert_allclose(losses(config), GOLDEN[config.family], rtol=2e-4, atol=1e-6)


def test_eight_devices_equal_one(config, monkeypatch):
    """Whole steps, optimizer and average too; `test_meshes` has every layout's gradient."""
    config.hardware.mesh.update(data=2, fsdp=2, tensor=2)
    many = losses(config)
    devices = jax.devices()
    config.hardware.mesh.update(data=1, fsdp=1, tensor=1)
    monkeypatch.setattr(jax, "devices", lambda *_: devices[:1])
    np.testing.assert_allclose(many, losses(config), rtol=1e-5)


@pytest.mark.parametrize(
    "config", [each for each in FAMILIES if each not in PERCEPTRONS], indirect=True
)
def test_state_is_really_split(config):
    config.hardware.mesh.update(data=1, fsdp=4, tensor=2)
    state = programs.build(config).init(jax.random.key(0))
    shares = {
        leaf.addressable_shards[0].data.size / leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if "qkv" in str(path) and "kernel" in str(path)
    }
    assert shares == {1 / 8}  # parameters and both moments


@pytest.mark.slow
def test_accumulation_is_the_whole_batch(data_folder):
    config = shapes.autoregressive()
    config.data.folder = str(data_folder)
    config.hardware.mesh.update(data=1, fsdp=8)
    config.train.batch_size = 32
    whole = losses(config)
    config.hardware.accumulation = 4
    np.testing.assert_allclose(losses(config), whole, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["shard_optimizer", "offload_optimizer"])
def test_where_the_optimizer_rests(data_folder, key):
    """Split over replicas, or in the host's memory: the steps are the same, its state is there."""
    config = shapes.autoregressive()
    config.data.folder = str(data_folder)
    plain = losses(config)
    config.hardware[key] = True
    np.testing.assert_allclose(losses(config), plain, rtol=1e-6)
    state = programs.build(config).init(jax.random.key(0))
    moments = [leaf for leaf in jax.tree.leaves(state["opt_state"]) if leaf.ndim > 1]
    if key == "shard_optimizer":
        assert all(x.addressable_shards[0].data.size * 8 == x.size for x in moments)
    else:
        assert {x.sharding.memory_kind for x in moments} == {"pinned_host"}


def test_checkpoint_goes_onto_another_mesh(config, tmp_path):
    program = programs.build(config)
    state = program.init(jax.random.key(3))
    with checkpoint.writer(tmp_path / "checkpoints") as checkpoints:
        checkpoint.save(checkpoints, 1, state, {})
    config.hardware.mesh.update(data=2, fsdp=2, tensor=2)
    other = programs.build(config)
    reader = checkpoint.reader(tmp_path / "checkpoints")
    restored, _ = checkpoint.restore(reader, 1, other.state)
    for saved, read, wanted in zip(
        *map(jax.tree.leaves, (state, restored, other.state)), strict=True
    ):
        np.testing.assert_array_equal(saved, read)
        assert read.sharding == wanted.sharding


def test_the_average_follows_its_formula():
    config = shapes.diffusion()
    config.data.update(images=64)
    program = programs.build(config)
    state = program.init(jax.random.key(0))
    before = jax.tree.map(np.asarray, state["ema"])
    source = data.load(config.data, "train")
    batch = jax.device_put(next(data.batches(source, 8, 0)), program.batch)
    state, _ = program.step(state, batch, jax.random.key(0), np.int32(0), np.float32(0.01))
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before, state["params"])
    for ema, value in zip(*map(jax.tree.leaves, (state["ema"], expected)), strict=True):
        np.testing.assert_allclose(ema, value, rtol=1e-5, atol=1e-7)


def test_a_finished_run_is_never_run_again(config, tmp_path):
    first = train(config, tmp_path)
    assert first["status"] == "finished" and first["steps"] == 10
    assert train(config, tmp_path) == first
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 10
    config.seed = 5
    with pytest.raises(UserError, match="seed: 0, now 5"):
        train(config, tmp_path)


@pytest.mark.slow
def test_markov_floor_is_approached_and_not_crossed(tmp_path):
    """A small decoder ends within 2% of the exact entropy, and never under it."""
    config = shapes.autoregressive(vocab=4, length=16)
    config.data.update(tokens=200_000, validation_tokens=50_000, order=1, concentration=0.5)
    config.train.update(steps=300, batch_size=32, learning_rate=0.02, decay_steps=100)
    config.evaluation.examples = 2000
    result = train(config, tmp_path)
    floor, score = result["floor"]["value"], result["score"]["value"]
    noise = 3 * 0.7 / (2000 * 16) ** 0.5  # bits a token vary by less than 0.7 here
    assert floor - noise < score < 1.02 * floor + noise


def test_parameters_scored_are_the_average(data_folder):
    config = shapes.diffusion()
    config.data.folder = str(data_folder)
    program = programs.build(config)
    params = program.init(jax.random.key(0))["params"]
    once, again = (evaluate(config, params)["bound"] for _ in range(2))
    assert once == again and once["unit"] == "bits/dim" and once["kind"] == "upper bound"


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
def test_learning_rates(schedule):
    settings = shapes.autoregressive().train
    settings.update(
        schedule=schedule, steps=100, warmup_steps=10, decay_steps=20, learning_rate=1.0
    )
    rates = np.array([optim.learning_rate(settings, step) for step in range(100)])
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert np.all(np.diff(rates[10:]) <= 0)
    if schedule == "wsd":
        assert np.all(rates[10:80] == 1) and rates[80] < 1 and 0 < rates[-1] < 0.03
    if schedule == "cosine":
        assert 0.1 <= rates[-1] < 0.102


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
def test_a_warm_up_fits_its_run(schedule):
    config = shapes.autoregressive()
    settings = config.train
    settings.update(schedule=schedule, steps=10, warmup_steps=10, decay_steps=0)
    optim.check(config)
    settings.warmup_steps = 11
    with pytest.raises(UserError, match="warmup_steps=11 exceed steps=10"):
        optim.check(config)


def test_a_trunk_serves_every_horizon():
    """The stable phase of every horizon has the trunk's rates, so a branch is the run itself."""
    spec = "experiments/quickstart.py:text"
    groups = study.load(spec, ["--config.hardware.mesh.data=1", "--config.hardware.mesh.fsdp=8"])
    for trunk, *branches in (group for group in groups.groups if len(group) > 1):
        for branch in branches:
            for step in (0, 7, branch.branch_step - 1):
                ours = optim.learning_rate(branch.config.train, step)
                assert ours == optim.learning_rate(trunk.config.train, step)
            assert branch.branch_step in trunk.branches
