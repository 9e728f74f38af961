"""Loss and gradient of small networks of every family, in any layout, on one process or several.

python -m tests.layouts FOLDER OUT NAME ...   # one process of several: families, into OUT
"""

import functools
import sys
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from research import data, families, mesh, programs, runtime
from tests import shapes


def dense(**hardware) -> ConfigDict:
    return _small(shapes.autoregressive(num_kv_heads=4, num_heads=4, width=16, depth=4), hardware)


def long(**hardware) -> ConfigDict:
    """Long enough for the tiles of TPU kernels."""
    return _small(shapes.autoregressive(length=128, num_kv_heads=2, num_heads=4), hardware)


def mixture(**hardware) -> ConfigDict:
    model: dict[str, Any] = dict(
        channel="moe", num_experts=4, num_heads=2, activation="swiglu", capacity_factor=1.0
    )
    return _small(shapes.autoregressive(**model), hardware)


def dropless(**hardware) -> ConfigDict:
    """Experts that take all who chose them, one that everybody passes, and a bias to balance."""
    model: dict[str, Any] = dict(
        channel="moe", router="sigmoid", num_experts=4, shared_experts=1, num_heads=2
    )
    model |= dict(capacity_factor=0.0, balance_rate=1.0, router_z_weight=0.1)
    return _small(shapes.autoregressive(**model), hardware)


def tables(**hardware) -> ConfigDict:
    """Every ingredient that looks beside what a position is given."""
    model: dict[str, Any] = dict(smear=True, value_embeddings=True, residual_scalars=True)
    model |= dict(bigram_rows=64, num_kv_heads=4, num_heads=4, depth=4, logit_softcap=4.0)
    return _small(shapes.autoregressive(**model), hardware)


def recurrent(**hardware) -> ConfigDict:
    """A linear recurrence, in chunks that do not divide the length."""
    model: dict[str, Any] = dict(mixer="gated_delta", num_heads=4, depth=4, chunk=4, length=10)
    return _small(shapes.autoregressive(**model), hardware)


def diffusion(**hardware) -> ConfigDict:
    return _small(shapes.diffusion(num_heads=4, depth=4, patch_size=2), hardware)


def blocks(**hardware) -> ConfigDict:
    """A text read twice, as drafts and as it is, by a network that looks at the token before."""
    model: dict[str, Any] = dict(num_heads=4, depth=4, block_size=4, smear=True)
    return _small(shapes.discrete_diffusion(**model), hardware)


def autoencoder(**hardware) -> ConfigDict:
    return _small(shapes.autoencoder(bottleneck="vq", codebook_update="gradient"), hardware)


def flow(**hardware) -> ConfigDict:
    """Half of an image says by a Transformer what the other half becomes."""
    model: dict[str, Any] = dict(network="patch_conditioner", squeeze=1, masks=("checkerboard",))
    return _small(shapes.flow(**model, flow_layers=4, width=16, num_heads=4), hardware)


def ladder(**hardware) -> ConfigDict:
    """Transformers to two levels of a latent and back, told classes, with a learned deviation."""
    model: dict[str, Any] = dict(network="transformer_coder", num_heads=4, width=16, depth=4)
    model |= dict(bottleneck="ladder", likelihood="gaussian", num_classes=4)
    return _small(shapes.autoencoder(**model), hardware)


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
                lambda params: family.loss(config, params, batch, jax.random.key(1), 0)[0]
            )(params)

    def place(array, sharding):  # every process has all of it
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    layout = jax.tree.map(lambda x: x.sharding, program.state["params"])
    params = jax.tree.map(place, start(make), layout)
    batch = jax.tree.map(lambda x: place(x, program.batch), batch)
    run = jax.jit(run, in_shardings=(layout, program.batch), out_shardings=(None, layout))
    found = run.lower(params, batch).compile(compiler_options=QUICK)(params, batch)
    if jax.process_count() > 1:
        found = jax.jit(lambda x: x, out_shardings=mesh.replicated(grid))(found)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


# Meshes of eight devices whose collectives cross processes, whatever the devices of each.
SEVERAL = {
    "dense": dict(mesh=dict(data=2, fsdp=2, tensor=2)),
    "mixture": dict(mesh=dict(fsdp=4, expert=2)),
    "diffusion": dict(mesh=dict(stage=2, sequence=2, tensor=2)),
}


def main(folder: str, out: str, *names: str) -> None:
    runtime.join()
    for name in names:
        found = loss_and_gradient(globals()[name], jax.devices(), folder, **SEVERAL[name])
        if jax.process_index() == 0:
            np.savez(f"{out}/{name}.npz", *found)


if __name__ == "__main__":
    main(*sys.argv[1:])
