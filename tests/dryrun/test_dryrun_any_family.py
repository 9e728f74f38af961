"""Families that are no transformers, on a laptop and on slices: what is not known is said."""

import json
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import cost, mesh, study
from research.__main__ import main
from research.dryrun import laptop, program, share
from tests import shapes

STUDY = '''
"""Do toys grow?"""
from research import defaults

FAMILIES = ("conv_family", "two_player")
PARTS = {
    name: {"title": name, "family": f"tests.toys.{name}", "data": "gaussian_mixture",
           "unit": "squared error", "data_unit": "images"}
    for name in FAMILIES
}


def get_config(part):
    config = defaults.config(f"tests.toys.{part}", "gaussian_mixture")
    config.part, config.recipe = part, "fixed"
    config.data.update(folder=FOLDER, resolution=8, images=400, validation_images=64)
    config.model.sides = (8, 8, 1)
    config.train.update(batch_size=16, learning_rate=0.004, warmup_steps=2, steps=20)
    config.evaluation.update(examples=64, batch_size=32)
    return config


def get_trials(part):
    return [{"model.channels": channels} for channels in (4, 8)]
'''


@pytest.fixture
def toys(tmp_path):
    path = tmp_path / "toys.py"
    path.write_text(STUDY.replace("FOLDER", repr(str(tmp_path / "data"))))
    return str(path)


def test_a_laptop_predicts_convolutions_and_two_players(toys):
    loaded = study.load(toys)
    printed = laptop.table(loaded, 2)
    for trial in loaded.trials:
        assert trial.id in printed
    assert "4 trials" in printed and "minutes with 2 workers" in printed


@pytest.mark.parametrize("family", ["conv_family", "two_player"])
def test_a_slice_compiles_what_it_does_not_count(toys, family, capsys):
    words = [
        "dryrun",
        "--config",
        f"{toys}:{family}",
        "--topology",
        "cpu:8",
        "--mesh",
        "fsdp=4,data=2",
    ]
    words += ["--config.model.channels=8", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["per_chip"]["fits"] and found["per_chip"]["peak_bytes"] > 0
    assert found["memory_ledger"] is None
    assert found["unknown"] == ["memory_ledger", "collectives.ledger_bytes"]
    assert all(each["ledger_bytes"] is None for each in found["collectives"])
    assert sum(each["compiled_bytes"] for each in found["collectives"]) > 0
    assert found["step"]["seconds_network"] > 0  # as read in the program
    chosen = study.load_config(f"{toys}:{family}", ["--config.model.channels=8"], prepared=False)
    assert found["step"]["flops"] == cost.ledger(chosen).step_flops > 0


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
def test_a_sweep_of_them_compiles_for_tpus(toys, capsys):
    assert main(["sweep", "--config", toys, "--dry_run", "--topology", "v5e:2x2"]) == 0
    printed = capsys.readouterr().out
    assert "4 shapes compiled" in printed and "every trial fits" in printed


DENOISERS = {
    "uvit": ["diffusion_isoflop.py", "--config.size=16"],
    "unet": [
        "diffusion_isoflop.py",
        "--config.size=8",
        "--config.model.channel_multipliers=(1,2)",
        "--config.model.blocks_per_level=1",
        "--config.model.head_width=4",
    ],
    "mmdit": ["text_to_image.py:images", "--config.size=16"],
}


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize("network", DENOISERS)
def test_networks_of_diffusion_compile_for_tpus(network, capsys):
    """Convolutions, long skips and two streams, split over both axes."""
    study_, *flags = DENOISERS[network]
    words = ["--config", f"experiments/{study_}", f"--config.model.network={network}", *flags]
    words += ["--config.budget=1e11", "--topology", "v5e:2x2", "--mesh", "fsdp=2,tensor=2"]
    assert main(["dryrun", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["topology"] == "v5e:2x2" and found["mesh"]["tensor"] == 2
    assert found["per_chip"]["fits"] and found["per_chip"]["peak_bytes"] > 0


def test_a_search_and_an_uncompiled_slice_say_what_they_do_not_know(toys, capsys, monkeypatch):
    words = ["dryrun", "--config", f"{toys}:conv_family", "--config.model.channels=8"]
    assert main([*words, "--topology", "cpu:8", "--search"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "'tests.toys.conv_family' is none" in lines[0]
    monkeypatch.setattr("research.dryrun.gpu.compiles", lambda: False)
    assert main([*words, "--topology", "h100:8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["per_chip"]["fits"] is None and "per_chip.fits" in found["unknown"]


def test_the_share_of_what_is_no_plain_stack_is_unknown():
    """A recurrence has the keys of a transformer, heads included, and none of its products."""
    known = []
    models: list[dict[str, Any]] = [
        *(dict(mixer=mixer) for mixer in ("attention", "gated_delta", "mamba2")),
        dict(pattern=("attention=full", "mixer=lstm")),
        dict(ahead=1),
    ]
    for model in models:
        config = shapes.autoregressive(**model)
        leaves = share.read_state(config).leaves()
        known.append(share.share(config, dict.fromkeys(mesh.AXES, 1), leaves) is not None)
    assert known == [True, False, False, False, False]


def test_live_bytes_and_product_bytes_are_counted_exactly():
    """y and z of 256 bytes live together; the product reads and writes three arrays."""
    x, w = np.ones((8, 8), np.float32), np.ones((8, 8), np.float32)

    def function(x, w):
        y = jnp.sin(x)
        z = y @ w
        return y + z

    jaxpr = jax.make_jaxpr(function)(x, w).jaxpr
    assert program.input_bytes(jaxpr) == 512 and program.product_bytes(jaxpr) == 768
    assert program.live_bytes(jaxpr) == 768  # y and z while their sum is made
    looped = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, _: (c @ c, c), x, None, length=5))(x)
    assert program.product_bytes(looped.jaxpr) == 5 * 768
    assert program.live_bytes(looped.jaxpr) == 256 + 5 * 256 + 256  # the carry, all of it, a turn's


@pytest.mark.slow
@pytest.mark.parametrize("part, size", [("text", 32), ("images", 16)])
def test_the_laptops_memory_holds_what_xla_needs(part, size):
    """Unfused it is an upper bound, within twice the temporaries of the compiled step."""
    from research.dryrun.compile import compile_step

    flags = [f"--config.size={size}", "--config.train.steps=40"]
    config = study.load_config(f"experiments/quickstart.py:{part}", flags, prepared=False)
    temporaries = compile_step(config, jax.devices()[:1]).temporaries
    assert temporaries is not None
    assert temporaries < program.live_bytes(cost.step(config)) < 2 * temporaries
