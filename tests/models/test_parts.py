"""A part is named by the config, brings its keys, and is one file anywhere."""

import json

import jax
import pytest

from research import config as configs
from research import data, defaults, families, identity, optim, parts, study
from research.errors import UserError
from tests import shapes

TEXT = "experiments/quickstart.py:text"
STRIDED = "tests.toys.strided_attention"


def load(*flags):
    return study.load_config(TEXT, [f"--config.{flag}" for flag in flags], prepared=False)


def test_a_named_part_brings_its_keys_whatever_the_order():
    plain = load("size=32")
    assert "window" not in plain.model and "stride" not in plain.model
    for flags in (("window=4", "attention=window"), ("attention=window", "window=4")):
        config = load("size=32", *(f"model.{flag}" for flag in flags))
        assert config.model.window == 4
        changed = configs.changes(configs.to_plain(plain), configs.to_plain(config))
        assert changed == {"model.attention": ("full", "window"), "model.window": (None, 4)}
    assert load("size=32", f"model.attention={STRIDED}").model.stride == 2


def test_a_study_names_a_part_and_its_keys():
    config = defaults.config("autoregressive", "markov", attention="window")
    assert config.model.window == 128
    defaults.override(config, ["--config.model.attention=full"])
    assert "window" not in config.model
    axes = {"model.window": 8, "model.attention": "window"}
    defaults.override(config, [], axes)
    assert config.model.window == 8
    defaults.override(config, ["--config.model.window=2"], axes)
    assert config.model.window == 2
    with pytest.raises(UserError, match=r"atention='window' names no part .*'attention'"):
        defaults.config("autoregressive", "markov", atention="window")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["attention=widow"], "config.model.attention='widow' is not one of full, window"),
        (["attention=no.such"], "config.model.attention='no.such': No module named 'no'"),
        (["network=dit"], "config.model.network='dit' is not one of decoder"),
        (["window=4"], "config.model has no key 'window'; it belongs to model.attention='window'"),
        (["attention=window", "wndow=4"], r"has no key 'wndow'.*window"),
        (["attention=window", "window=0"], "config.model.window=0 must be at least 1"),
        (["max_length=9"], "no key 'max_length'; it belongs to model.positions='learned'"),
        (["positions=learned", "max_length=16"], "=16 is shorter than config.data.length=128"),
        ([f"attention={STRIDED}", "stride=0"], "config.model.stride=0 must be at least 1"),
    ],
)
def test_what_is_wrong_with_a_part_is_one_line(flags, message):
    with pytest.raises(UserError, match=message):
        load("size=32", *(f"model.{flag}" for flag in flags))


@pytest.mark.parametrize(
    "flags, message",
    [
        (["attention=cudn"], "is not one of dense, chunked, splash, cudnn.*cudnn"),
        (["attention=cudnn"], "kernel for NVIDIA's GPUs, of which there is none; use chunked"),
        (["remat=al"], "config.hardware.remat='al' is not one of"),
    ],
)
def test_what_a_machine_cannot_run_is_one_line(flags, message):
    with pytest.raises(UserError, match=message):
        load("size=32", *(f"hardware.{flag}" for flag in flags))


def test_a_kernel_of_gpus_passes_where_they_are_elsewhere():
    flags = [f"--config.hardware.{flag}" for flag in ("attention=cudnn", "compute_dtype=bfloat16")]
    study.load_config(TEXT, ["--config.size=32", *flags], num_devices=8, prepared=False)
    with pytest.raises(UserError, match="needs config.hardware.compute_dtype=bfloat16"):
        study.load_config(TEXT, ["--config.size=32", flags[0]], num_devices=8, prepared=False)


def test_a_run_of_before_there_were_parts_goes_on(tmp_path):
    """Its config.json lacks the keys that name them; it ran by their defaults."""
    config = shapes.autoregressive()
    plain = configs.to_plain(config)
    for key in ("network", "mixer", "channel", "attention"):
        del plain["model"][key]
    mixture = dict(num_experts=0, experts_per_token=2, capacity_factor=1.25, balance_weight=0.01)
    plain["model"] |= mixture  # of which the perceptron had the keys
    (tmp_path / "config.json").write_text(json.dumps(plain))
    identity.check_folder(tmp_path, config)
    here = study.here(configs.from_plain(defaults.complete(plain)))
    assert configs.to_plain(here)["model"] == configs.to_plain(config)["model"]
    other = shapes.autoregressive(attention="window")
    with pytest.raises(UserError, match="model.attention: full, now window"):
        identity.check_folder(tmp_path, other)


def test_an_optimizer_of_before_its_later_keys_is_what_it_was():
    """Muon's own, and that of a group, decayed every matrix and knew one scale."""
    config = shapes.autoregressive()
    group = dict(paths=("*up*",), roles=(), rate=2.0, optimizer="muon", momentum=0.9)
    plain = configs.to_plain(config)
    of_run = defaults.complete(plain | {"train": plain["train"] | {"optimizer": "muon"}})["train"]
    plain["train"]["groups"] = {"up": group}
    of_group = defaults.complete(plain)["train"]["groups"]["up"]
    for each in (of_run, of_group):
        assert each["scale"] == "rms" and each["neuron_b2"] == 0.0
        assert each["decayed"] == ("input", "hidden", "output")
    assert of_group == of_group | group
    optim.check(study.here(configs.from_plain(defaults.complete(plain))))


def loss(config):
    family = families.load(config.family)
    shape = data.batch_shapes(data.outline(config.data), 8)
    batch = {name: jax.numpy.ones(*each) for name, each in shape.items()}
    params = jax.jit(lambda: family.init(config, jax.random.key(0)))()
    step = jax.jit(lambda params: family.loss(config, params, batch, jax.random.key(0), 0))
    return step(params)


def test_parts_ask_for_a_penalty_and_families_know_none():
    """The load-balancing loss of the mixture: in the loss, at its weight."""
    values, measures = [], {}
    for weight in (0.0, 0.5):
        config = shapes.autoregressive(depth=1, channel="moe", balance_weight=weight)
        value, measures = loss(config)
        assert "penalty" not in measures
        values.append(float(value))
    assert values[1] - values[0] == pytest.approx(0.5 * float(measures["balance"]), rel=1e-4)


def test_every_name_of_every_table_is_a_part():
    for family in (families.load(name) for name in families.FAMILIES):
        for owner in (
            family,
            *(part for _, part in parts.named(family, parts.keys(family, {}))),
        ):
            for key, table in getattr(owner, "PARTS", {}).items():
                for name in table:
                    parts.keys(parts.load(key, name, table), {})
