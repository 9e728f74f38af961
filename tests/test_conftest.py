"""The ground that other tests stand on."""

from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np


def test_eight_cpu_devices():
    assert [device.platform for device in jax.devices()] == ["cpu"] * 8


def test_a_sharded_sum_uses_them_all():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x = jax.device_put(np.arange(64, dtype=np.float32), sharding)
    assert len({shard.device for shard in x.addressable_shards}) == 8
    assert jax.jit(lambda x: x.sum())(x) == 64 * 63 / 2


def test_hypothesis_repeats_itself():
    def examples() -> list[float]:
        seen = []

        @hypothesis.given(st.floats(0, 1))
        def collect(x):
            seen.append(x)

        collect()
        return seen

    assert examples() == examples()


def test_workers_share_one_data_folder(data_folder, tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    in_worker = base.name.startswith("popen-")
    assert data_folder == (base.parent if in_worker else base) / "data"
    assert isinstance(data_folder, Path)
