"""Several processes that train one run: who writes, and how they come to the same decision.

With one process each function returns at once and touches no device.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def first() -> bool:
    """Whether this is the process that writes what is not an array."""
    return jax.process_index() == 0


def from_first(value: int) -> int:
    """The value that the first process passed, in every process; waits for all of them."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def all_agree(value: bool) -> bool:
    """Whether every process passed True; waits for all of them."""
    if jax.process_count() == 1:
        return value
    return bool(np.all(multihost_utils.process_allgather(np.int32(value))))


class Largest:
    """The largest of the numbers that the processes pass, known everywhere one call later.

    The reduction runs on the devices behind the steps, so that nobody waits for it, and since all
    read the same number at the same call, all act on it at the same step. With one process the
    answer is what was passed, at once.
    """

    def __init__(self):
        if jax.process_count() == 1:
            return
        chosen = {device.process_index: device for device in reversed(jax.devices())}
        devices = [chosen[index] for index in sorted(chosen)]
        mesh = Mesh(np.array(devices), ("process",))
        self.split = NamedSharding(mesh, PartitionSpec("process"))
        self.reduce = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self.pending = None

    def __call__(self, value: int) -> int:
        if jax.process_count() == 1:
            return value
        before, own = self.pending, np.array([value], np.int32)
        self.pending = self.reduce(jax.make_array_from_process_local_data(self.split, own))
        return 0 if before is None else int(before)


def rows(sharding: NamedSharding, batch_size: int) -> tuple[int, int]:
    """The rows [first, last) of a batch that hold all that this process's devices need.

    Read off the layout itself: a process may hold any part of the batch, or all of it where
    replicas span processes.
    """
    held = sharding.addressable_devices_indices_map((batch_size,)).values()
    spans = [index[0].indices(batch_size)[:2] for index in held if index is not None]
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def place(sharding: NamedSharding, batch: Any, batch_size: int, start: int = 0) -> Any:
    """Return the global arrays [batch_size, ...] of which `batch` holds the rows from `start` on.

    `batch` has at least this process's `rows`.
    """
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)

    def leaf(own: np.ndarray) -> jax.Array:
        def read(index: Any) -> np.ndarray:
            begin, end, _ = index[0].indices(batch_size)
            return own[begin - start : end - start]

        return jax.make_array_from_callback((batch_size, *own.shape[1:]), sharding, read)

    return jax.tree.map(leaf, batch)


def whole(tree: Any) -> Any:
    """Arrays that are spread over several processes, whole in each of them."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.process_allgather(tree, tiled=True)
