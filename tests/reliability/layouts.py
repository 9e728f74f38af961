"""Run by several processes together: every layout of a batch over them holds the same batch."""

import itertools
import sys

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research import processes, runtime

ROWS = 16


def main() -> None:
    runtime.join()
    whole = {
        "tokens": np.arange(ROWS * 3).reshape(ROWS, 3),
        "mask": np.arange(ROWS, dtype=np.float32),
    }
    for sharding in shardings():
        first, last = processes.rows(sharding, ROWS)
        own = jax.tree.map(lambda x, a=first, b=last: x[a:b], whole)
        for given, start in ((own, first), (whole, 0)):
            placed = processes.place(sharding, given, ROWS, start)
            everywhere = NamedSharding(sharding.mesh, PartitionSpec())
            found = jax.jit(lambda x: x, out_shardings=everywhere)(placed)
            jax.tree.map(np.testing.assert_array_equal, found, whole)
    largest = processes.Largest()
    wishes = [3 if index == jax.process_index() else 0 for index in range(6)]
    heard = [largest(wish) for wish in wishes]  # one call later, by all
    assert heard == [0, *[3] * jax.process_count(), *[0] * (5 - jax.process_count())]
    assert processes.from_first(7 + jax.process_index()) == 7
    assert processes.all_agree(True) and not processes.all_agree(jax.process_index() != 1)


def shardings():
    """The batch over the first axis, the second or both, of meshes in order and out of it."""
    devices = np.array(jax.devices())
    orders = [devices, devices[::-1], np.roll(devices, 1), devices.reshape(2, -1).T.ravel()]
    for order, data in itertools.product(orders, (1, 2, 4, 8)):
        mesh = Mesh(order.reshape(data, -1), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
        for spec in ("data", "tensor", ("data", "tensor")):
            yield NamedSharding(mesh, PartitionSpec(spec))


if __name__ == "__main__":
    sys.exit(main())
