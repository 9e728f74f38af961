"""What compilers say: room, refusals and sizes; and silence where there is no TPU."""

import os
import subprocess
import sys
from collections import Counter

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research import cost, mesh, programs, study
from research.dryrun import command, roofline, share, topology
from research.dryrun.compile import compile_step, needed, step_arguments
from research.hardware import CHIPS, parse_slice

SMALL = [
    "--config.model.depth=2",
    "--config.model.width=64",
    "--config.model.num_heads=4",
    "--config.model.vocab_size=256",
    "--config.data.length=32",
    "--config.hardware.attention=chunked",
    "--config.train.batch_size=16",
    "--config.evaluation.batch_size=16",
]


def refusal(name: str, side: int) -> str:
    """What libtpu says of the square of a replicated matrix of `side` rows."""
    devices = topology.devices(parse_slice(name))
    grid = Mesh(np.array(devices), ("x",), axis_types=(AxisType.Auto,))
    whole = NamedSharding(grid, PartitionSpec())
    x = jax.ShapeDtypeStruct((side, side), jnp.float32, sharding=whole)
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.jit(lambda x: x @ x).lower(x).compile()
    return str(caught.value)


@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1"])
@pytest.mark.usefixtures("libtpu")
def test_the_room_of_every_chip_is_the_compilers(name):
    """The refusal of a product of 2 TiB says what there is, to a hundredth of a GiB."""
    chip = CHIPS[name.partition(":")[0]]
    message = refusal(name, side=2**19)
    assert f"({chip.usable_bytes / chip.devices_per_chip / 2**30:.2f}G)" in message
    assert needed(message) == 2 * 2**40


@pytest.mark.parametrize(
    "message, size",
    [
        ("RESOURCE_EXHAUSTED: Used 36.11G of 15.75G hbm. Exceeded by 20.36G.", 36.11 * 2**30),
        ("the total memory required for HLO temporaries (512.5M) exceeds available HBM (15.75G)",
         512.5 * 2**20),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 137438953472 bytes.", 2**37),
        ("RESOURCE_EXHAUSTED: something else", None),
    ],
)  # fmt: skip
def test_how_much_a_refused_program_needs(message, size):
    assert needed(message) == (None if size is None else round(size))


def test_arguments_are_counted_without_a_compiler():

    flags = [*SMALL, "--config.hardware.mesh.fsdp=4", "--config.hardware.mesh.tensor=2"]
    config = study.load_config("experiments/lm_7b.py", flags, num_devices=8, prepared=False)
    sizes = mesh.sizes(config.hardware.mesh, 8)
    counted, _ = share.read_state(config).split(config, sizes)
    compiled = compile_step(config, jax.devices())
    _, batch, *_ = step_arguments(config, programs.build(config, jax.devices()))
    tokens = batch["tokens"].size * 4 / 4  # split over fsdp, not over tensor
    assert 0 <= compiled.arguments - counted - tokens <= 64  # the key, the step, two counts


def test_verbs_are_silent_where_there_is_no_tpu():
    """With libtpu installed and JAX free to choose, nothing but the answer is printed."""
    done = subprocess.run(
        [sys.executable, "-c", "import research, jax; print(jax.devices()[0].platform)"],
        env={key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and done.stdout.strip() in ("cpu", "gpu", "tpu")


def test_a_pipeline_idles_and_makes_the_head_on_every_stage():
    """Two stages of one layer, two parts: three ticks for two; exactly."""
    chosen = study.load_config("experiments/lm_7b.py", SMALL, num_devices=8, prepared=False)
    wanted = command.parse("cpu:8", 1)

    def seconds(**sizes):
        sizes = dict.fromkeys(mesh.AXES, 1) | sizes
        ours = share.share(chosen, sizes, share.read_state(chosen).leaves())
        return roofline.roofline(chosen, ours, sizes, wanted, Counter(), {}, 0.0).seconds_compute

    head = cost.groups(cost.executed(chosen))["head"] / (wanted.kind.flops * 8)
    alone, piped = seconds(data=8), seconds(data=4, stage=2)
    assert piped == pytest.approx((alone - head) * 3 / 2 + head * 2, rel=1e-12)
