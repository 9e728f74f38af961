"""The loss and its gradient never depend on the layout: eight devices in any mesh equal one."""

import functools

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from research import data, families, mesh, programs
from tests import shapes


def dense(**hardware) -> ConfigDict:
    return _small(shapes.autoregressive(num_kv_heads=4, num_heads=4, width=16, depth=4), hardware)


def mixture(**hardware) -> ConfigDict:
    model = dict(num_experts=4, num_heads=2, depth=2, activation="swiglu", capacity_factor=1.0)
    return _small(shapes.autoregressive(**model), hardware)


def diffusion(**hardware) -> ConfigDict:
    return _small(shapes.diffusion(num_heads=4, depth=4, patch_size=2), hardware)


def _small(config: ConfigDict, hardware: dict) -> ConfigDict:
    config.hardware.unroll = 1
    config.hardware.mesh.data = 1
    config.hardware.mesh.update(hardware.pop("mesh", {}))
    config.hardware.update(hardware)
    return config


# Compiling is most of what these tests do, and the programs are small.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@functools.lru_cache
def start(make) -> dict:
    """Parameters away from where they start: some kernels start at zero."""
    config = make()
    family, generator = families.load(config.family), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: family.init(config, key), jax.random.key(0))
    return jax.tree.map(lambda x: generator.normal(0, 0.2, x.shape).astype(x.dtype), shapes)


def loss_and_gradient(make, devices: list, folder: str, **hardware) -> list[np.ndarray]:
    """Loss and gradient of the first batch."""
    config = make(**hardware)
    config.data.folder = folder
    family, program = families.load(config.family), programs.build(config, devices)
    grid = mesh.make(config.hardware.mesh, devices)
    batch = next(data.batches(data.load(config.data, "train"), config.train.batch_size, 0))

    def run(params, batch):
        with jax.sharding.use_abstract_mesh(grid.abstract_mesh):
            return jax.value_and_grad(
                lambda params: family.loss(config, params, batch, jax.random.key(1))[0]
            )(params)

    layout = jax.tree.map(lambda x: x.sharding, program.state["params"])
    arguments = jax.device_put((start(make), batch), (layout, program.batch))
    run = jax.jit(run, in_shardings=(layout, program.batch), out_shardings=(None, layout))
    value, gradient = run.lower(*arguments).compile(compiler_options=QUICK)(*arguments)
    return [np.asarray(value), *map(np.asarray, jax.tree.leaves(gradient))]


def assert_same(many: list[np.ndarray], one: list[np.ndarray]) -> None:
    """To 1e-5 of the loss, and of the norm of each parameter's gradient."""
    np.testing.assert_allclose(many[0], one[0], rtol=1e-5)
    for a, b in zip(many[1:], one[1:], strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b) + 1e-9


@pytest.fixture(scope="module")
def single(data_folder):
    """What one device computes, once for each family."""
    return {
        make: loss_and_gradient(make, jax.devices()[:1], str(data_folder))
        for make in (dense, mixture, diffusion)
    }


TOGETHER = [
    dict(mesh=dict(slice=2, fsdp=4)),
    dict(mesh=dict(data=2, fsdp=2, tensor=2)),
    dict(mesh=dict(fsdp=2, sequence=2, tensor=2)),
    dict(mesh=dict(slice=2, stage=2, fsdp=2)),
    dict(mesh=dict(stage=2, tensor=4), microbatches=4),
    dict(mesh=dict(fsdp=4, expert=2)),
    dict(mesh=dict(stage=4, sequence=2)),
    dict(mesh=dict(data=2, sequence=2, expert=2), attention="chunked"),
    dict(mesh=dict(fsdp=2, tensor=4), remat="full", attention="chunked"),
    dict(mesh=dict(fsdp=8), remat="dots", shard_optimizer=True),
]


def named(layout: dict) -> str:
    words = [f"{axis}{size}" for axis, size in layout["mesh"].items()]
    return "-".join([*words, *(str(v) for k, v in layout.items() if k in ("remat", "attention"))])


@pytest.mark.parametrize("layout", TOGETHER, ids=named)
@pytest.mark.parametrize("make", [dense, diffusion])
def test_axes_together(single, data_folder, make, layout):
    many = loss_and_gradient(make, jax.devices(), str(data_folder), **layout)
    assert_same(many, single[make])


@pytest.mark.parametrize("axis", mesh.AXES)
@pytest.mark.parametrize("make", [dense, mixture, diffusion])
def test_an_axis_alone(single, data_folder, make, axis):
    split = 2 if make is mixture else 4
    many = loss_and_gradient(make, jax.devices()[:split], str(data_folder), mesh={axis: split})
    assert_same(many, single[make])
