"""Averages by powers of the step: their formulas, their snapshots, and what is made of them."""

import shutil

import jax
import numpy as np
import pytest

from launch import local
from research import data, optim, programs, study, trained
from research.errors import UserError
from research.optim import power_average
from research.optim.power_average import Profile, exponent, relative_width
from research.run import checkpoint, lease, snapshots
from research.train import train
from tests import shapes, tiny

WIDTHS = (0.05, 0.1)
STEPS = 24


def weights(profile, steps):
    """The weight of the weights after each of `steps` steps, by the integral over that step."""
    edges = np.minimum(np.arange(steps + 1) / profile.step, 1.0)
    return np.diff(edges ** (exponent(profile.width) + 1))


def test_widths_and_exponents():
    """Karras 2024 name the exponents 16.97 and 6.94 of the usual widths."""
    assert [round(exponent(width), 2) for width in WIDTHS] == [16.97, 6.94]
    assert exponent(12**-0.5) == pytest.approx(0, abs=1e-12)  # the plain mean
    for width in np.geomspace(power_average.NARROWEST, power_average.WIDEST, 50):
        assert relative_width(exponent(width)) == pytest.approx(width, rel=1e-9)
    # The relative width is the standard deviation of the profile over the run's length.
    step = np.arange(100_000) + 0.5
    for width in WIDTHS:
        each = weights(Profile(100_000, width), 100_000)
        spread = np.sqrt(each @ step**2 - (each @ step) ** 2) / 100_000
        assert spread == pytest.approx(width, rel=1e-6)


def test_the_recursion_is_the_weighted_sum():
    generator = np.random.default_rng(0)
    path = generator.normal(size=(60, 3))
    with jax.enable_x64(True):
        averages = power_average.begun(WIDTHS, {"x": np.full(3, 1e9)})  # what the first replaces
        for index, params in enumerate(path):
            averages = power_average.moved(averages, {"x": params}, np.int64(index))
    for width in WIDTHS:
        direct = weights(Profile(60, width), 60) @ path
        np.testing.assert_allclose(averages[str(width)]["x"], direct, rtol=1e-12, atol=1e-6)


def stored(steps):
    return [Profile(step, width) for step in sorted(steps) for width in WIDTHS]


KEPT = snapshots.steps((1000,), 4) | {1000}


def test_what_was_stored_comes_back():
    profiles = stored(KEPT)
    for number, wanted in enumerate(profiles):
        found, error = power_average.coefficients(profiles, wanted)
        np.testing.assert_allclose(found, np.eye(len(profiles))[number], atol=1e-6)
        assert error < 1e-6


@pytest.mark.parametrize("width", [0.04, 0.07, 0.15, 0.2])
def test_what_was_not_stored_is_made(width):
    """Its profile is off by what is said, and its sum is 1; so a path is off by no more."""
    profiles, wanted = stored(KEPT), Profile(1000, width)
    found, error = power_average.coefficients(profiles, wanted)
    assert found.sum() == pytest.approx(1, abs=1e-9)
    made = found @ np.array([weights(each, 1000) for each in profiles])
    direct = weights(wanted, 1000)
    assert np.linalg.norm(made - direct) <= 1.001 * error * np.linalg.norm(direct)
    assert np.linalg.norm(made - direct) >= 0.5 * error * np.linalg.norm(direct)
    line = 3.0 + 0.002 * np.arange(1, 1001)  # from 3 to 5
    assert made @ line == pytest.approx(direct @ line, abs=2e-3)
    # More snapshots, or a stored width beside it, come nearer.
    dense = stored(snapshots.steps((1000,), 16) | {1000})
    assert power_average.coefficients(dense, wanted)[1] < error / 2


def test_how_far_they_reach():
    low, high = power_average.reach(stored(KEPT), 1000)
    assert 0.025 < low < 0.04 and 0.2 < high < power_average.WIDEST
    for width, good in ((low, True), (high, True), (0.9 * low, False), (1.1 * high, False)):
        error = power_average.coefficients(stored(KEPT), Profile(1000, width))[1]
        assert (error <= power_average.LIMIT) == good
    alone = power_average.reach(stored({1000}), 1000)
    assert low < alone[0] <= 0.05 and 0.1 <= alone[1] < high


def test_which_steps_are_kept():
    assert snapshots.steps((64,), 1) == {8, 16, 32, 64}
    assert snapshots.steps((64,), 0) == snapshots.steps((0,), 4) == frozenset()
    assert min(snapshots.steps((1000,), 4)) >= 100 and len(snapshots.steps((1000,), 4)) == 13
    # A longer run keeps the same steps further on, so that a trunk's serve all that leave it.
    grid = snapshots.steps((2**14,), 4)
    for end in (2**13, 3000, 5000):
        assert {step for step in snapshots.steps((end,), 4) if step >= min(grid)} <= grid
    assert snapshots.steps((100, 5000), 4) == snapshots.steps((100,), 4) | snapshots.steps(
        (5000,), 4
    )


@pytest.mark.parametrize(
    "widths, said",
    [
        ("(0.05,0.5)", "0.5 must be from 0.001 to 0.2887"),
        ("(0,)", "0 must be from"),
        ("('a',)", "'a' must be from"),
        ("(0.1,0.1)", "names one width twice"),
    ],
)
def test_bad_widths(tmp_path, widths, said):
    with pytest.raises(UserError, match=said):
        config(tmp_path, f"--config.train.ema_widths={widths}")


def config(folder, *flags):
    folder.mkdir(exist_ok=True)
    spec = tiny.write(folder, [{"train.steps": STEPS}])
    flags = ("--config.checkpoint.every_steps=9", "--config.checkpoint.snapshots=2", *flags)
    averaged = f"--config.train.ema_widths={','.join(map(str, WIDTHS))}"
    return study.load_config(spec, [f"--config.train.steps={STEPS}", averaged, *flags])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    train(config(folder), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    train(config(folder, "--config.train.ema_widths=()"), folder / "run")
    return folder / "run"


def path_of(config):
    """The weights after each step, without a run."""
    program = programs.build(config)
    state, key = program.init(jax.random.key(config.seed)), jax.random.key(config.seed)
    batches = data.batches(data.load(config.data, "train"), config.train.batch_size, config.seed)
    for index in range(STEPS):
        batch = jax.device_put(next(batches), program.batch)
        rate = np.float32(optim.learning_rate(config.train, index))
        state, _ = program.step(state, batch, key, np.int32(index), rate)
        yield jax.tree.map(np.asarray, state["params"])


@pytest.mark.slow
def test_a_width_of_a_run_is_the_average_of_its_weights(run):
    found = trained.newest(run)
    path = [jax.tree.leaves(params) for params in path_of(found.config)]
    for width in (*WIDTHS, 0.07, 0.12):
        wanted = Profile(STEPS, width)
        error = power_average.coefficients(trained.profiles(found), wanted)[1]
        assert (error < 1e-6) == (width in WIDTHS)
        made = jax.tree.leaves(trained.averages(found, [width])[0])
        for leaf, *states in zip(made, *path, strict=True):
            states = np.array(states, np.float64)
            expected = np.tensordot(weights(wanted, STEPS), states, 1)
            apart = np.abs(expected - states[-1]).max()  # from the last weights
            np.testing.assert_allclose(leaf, expected, atol=2e-6 + (error > 1e-6) * apart / 5)


def test_averages_change_nothing_else(run, plain):
    assert tiny.rows(run) == tiny.rows(plain)
    assert tiny.result(run) == tiny.result(plain)
    assert not (plain / "averages").exists()
    kept = snapshots.steps((STEPS,), 2)
    assert {int(path.name) for path in (run / "averages").iterdir()} == kept


def test_snapshots_do_not_depend_on_a_stop(run, tmp_path):
    """The newest checkpoint and a snapshot after it are lost; others after it are there."""
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / str(STEPS))
    shutil.rmtree(again / "averages" / str(max(snapshots.steps((STEPS,), 2))))
    (again / "result.json").unlink()
    train(config(tmp_path), again)
    assert held(again) == held(run) and tiny.state(again) == tiny.state(run)


def held(folder):
    """The bytes of every snapshot in a run's folder."""
    shapes = trained.newest(folder).state["averages"]
    steps = [int(path.name) for path in (folder / "averages").iterdir()]
    states = {
        step: snapshots.read(checkpoint.reader(folder / "averages"), step, shapes) for step in steps
    }
    return {
        step: [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(each)]
        for step, each in states.items()
    }


def test_what_cannot_be_asked(run, plain, tmp_path):
    with pytest.raises(UserError, match=r"keeps no averages .* --config.train.ema_widths=0.05,0.1"):
        trained.load(plain, 0.07)
    for width in (0.0001, 0.01, 0.28, 5.0, float("nan")):
        with pytest.raises(UserError, match=r"give widths from 0.0\d+ to 0.[12]\d+; another"):
            trained.load(run, width)
    with pytest.raises(UserError, match="--ema wide: give a relative width such as 0.07"):
        trained.width("wide")
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    step = max(trained.newest(run).snapshots)
    shutil.rmtree(broken / "averages" / str(step) / "state")
    with pytest.raises(UserError, match=f"averages/{step} cannot be read .* move it away"):
        trained.load(broken, 0.07)
    shutil.rmtree(broken / "averages" / str(step))
    trained.load(broken, 0.07)


@pytest.mark.slow
def test_a_branch_has_the_averages_of_the_whole_run(tmp_path):
    """Its trunk kept the first of its snapshots; without the trunk fewer widths can be made."""
    flags = (f"--config.train.ema_widths={WIDTHS[0]},{WIDTHS[1]}", "--config.log_steps=20")
    loaded = study.load(tiny.write(tmp_path, tiny.ONE_SIZE[1:]), flags)
    folder = tmp_path / loaded.name
    study.check_folder(loaded, folder)
    study.write_description(loaded, folder)
    local.finish(loaded.name, loaded.groups, folder)
    trunk, _, branch = loaded.groups[0]
    assert trunk.branches and branch.trunk == trunk.id
    train(branch.config, tmp_path / "alone")
    whole, left = trained.newest(tmp_path / "alone"), trained.newest(folder / branch.id)
    assert {*whole.snapshots} <= {*left.snapshots}
    assert {home.parent.name for home in left.snapshots.values()} == {trunk.id, branch.id}
    shapes = whole.state["averages"]
    for step, home in whole.snapshots.items():
        both = (
            snapshots.read(checkpoint.reader(each), step, shapes)
            for each in (home, left.snapshots[step])
        )
        jax.tree.map(np.testing.assert_array_equal, *both)
    for ours, theirs in zip(
        *(jax.tree.leaves(trained.averages(each, [0.2])[0]) for each in (whole, left)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)
    shutil.rmtree(folder / trunk.id)
    with pytest.raises(UserError, match="--ema 0.2: .* give widths from"):
        trained.load(folder / branch.id, 0.2)


def averages_of(config):
    """The averages after some steps, and the program that made them."""
    program, seed = programs.build(config), jax.random.key(config.seed)
    state, batches = program.init(seed), data.load(config.data, "train")
    batches = data.batches(batches, config.train.batch_size, config.seed)
    for index in range(6):
        batch, rate = jax.device_put(next(batches), program.batch), np.float32(0.1)
        state, _ = program.step(state, batch, seed, np.int32(index), rate)
    return program, state["averages"]


def test_averages_of_eight_devices_are_those_of_one(tmp_path, monkeypatch):
    """Split over replicas, saved, and read back by one device."""
    chosen = config(tmp_path, "--config.hardware.shard_optimizer=True")
    _, many = averages_of(chosen)
    leaves = jax.tree.leaves(many)
    assert all(x.addressable_shards[0].data.size * 8 == x.size for x in leaves)
    with snapshots.writer(tmp_path, chosen, (), lease.NOBODY) as keeper:
        snapshots.save(keeper, 6, many, lease.NOBODY)
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)
    program, one = averages_of(config(tmp_path))
    reader = checkpoint.reader(tmp_path / snapshots.FOLDER)
    read = snapshots.read(reader, 6, program.state["averages"])
    for ours, saved, there in zip(*map(jax.tree.leaves, (one, many, read)), strict=True):
        np.testing.assert_allclose(ours, saved, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(saved, there)
        assert there.sharding.device_set == {*first}


def test_averages_lie_as_their_parameters_do():
    """Those that are trained, of a network of any family."""
    for chosen in (shapes.autoregressive(), shapes.diffusion()):
        chosen.train.update(ema_widths=WIDTHS, frozen=("embedding",))
        chosen.hardware.mesh.update(data=1, fsdp=4, tensor=2)
        state = programs.build(chosen).state
        trained_ones = optim.trained(chosen, state["params"])
        assert jax.tree.leaves(trained_ones) != [] and [*state["averages"]] == ["0.05", "0.1"]
        for each in state["averages"].values():
            assert jax.tree.structure(each) == jax.tree.structure(trained_ones)
            for ours, theirs in zip(*map(jax.tree.leaves, (each, trained_ones)), strict=True):
                assert (ours.shape, ours.sharding) == (theirs.shape, theirs.sharding)
